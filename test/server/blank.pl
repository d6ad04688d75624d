# Pages without text: the default model reads '' from them, not an invention.
use strict;
use warnings;

use lib 'server';
use OcrTest;
use List::Util qw(max min);
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_cluster('blank', "shared_preload_libraries = 'deepseek_ocr'");

# A row of pixels around a level of grey.
sub noisy
{
	my ($level, $spread) = @_;
	return sub {
		my ($width) = @_;
		# The sum of four uniform numbers is nearly normal.
		return pack 'C*', map { max(0, min(255, $level + $spread * (rand() + rand() + rand() + rand() - 2))) } 1 .. $width;
	};
}

my $blank = 0;
$node->safe_psql('postgres', 'CREATE TABLE blanks (id integer PRIMARY KEY, image bytea, content text)');

srand 1;
my @pages = (
	[ 'white', 255, 0, [ 16, 16 ], [ 400, 300 ], [ 1240, 1754 ] ],
	[ 'grey', 128, 0, [ 800, 1100 ] ],
	[ 'off-white with noise', 245, 10, [ 640, 640 ], [ 1240, 1754 ] ],
	[ 'grey with strong noise', 215, 50, [ 800, 1100 ] ]);
for my $page (@pages)
{
	my ($what, $level, $spread, @sizes) = @$page;
	my $row = noisy($level, $spread);
	for my $size (@sizes)
	{
		my ($width, $height) = @$size;
		my $image = bytea(grey_png($width, $height, sub { $row->($width) }));
		is($node->safe_psql('postgres', "SELECT text, finish FROM ocr_detail($image)"), '|stop', "$what, $width x $height");
		$blank++;
		$node->safe_psql('postgres', "INSERT INTO blanks VALUES ($blank, $image)");
	}
}
is($node->safe_psql('postgres', "SELECT ocr(image) FROM pages WHERE name = 'strip'"), page_text('strip'), 'a text is read');
is($node->safe_psql('postgres', 'SELECT pages - blank_pages FROM pg_stat_ocr'), 1, 'and all pages but this one are counted as blank');

# In a job a blank page is one that is read: its text is '', and it is not read again.
my $convert = q{CALL ocr_convert('blanks', 'image', 'content', filter => 'id <= 2')};
is($node->safe_psql('postgres', $convert), '2|0', 'a job reads blank pages');
is($node->safe_psql('postgres', "SELECT count(*) FROM blanks WHERE content = ''"), 2, 'as empty texts');
is($node->safe_psql('postgres', $convert), '0|0', 'once');
is($node->safe_psql('postgres', 'SELECT count(*) FROM blanks, ocr_layout(image) WHERE id <= 2'), 0, 'they have no blocks');
is($node->safe_psql('postgres', "SELECT count(*) FROM blanks WHERE id <= 2 AND ocr_markdown(image) <> ''"), 0, 'and no markdown');

$node->stop;
done_testing();
