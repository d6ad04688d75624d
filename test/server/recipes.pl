# What the documentation shows runs, word by word, each block in a session of its own that finds no library
# preloaded; what comes of it, other tests say.
use strict;
use warnings;

use lib 'server';
use OcrTest;
use Cwd qw(abs_path);
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = abs_path(PostgreSQL::Test::Utils::tempdir());
my $node = start_cluster('recipes', <<CONF);
deepseek_ocr.model = '${\quick_folder("$folder/quick")}'
deepseek_ocr.max_tokens = 20
CONF
$node->safe_psql('postgres', q{
	CREATE ROLE clerk;
	CREATE TABLE scans AS SELECT row_number() OVER () AS id, current_date AS received, 1 AS box, image FROM pages;
	CREATE TABLE boxes AS SELECT 1 AS box, 'cellar' AS place;
	CREATE TABLE charts AS SELECT image FROM pages;
	CREATE TABLE letters AS SELECT 'a' AS letter, id AS page, image FROM scans;
	CREATE TABLE archive AS SELECT id, image FROM scans;
});

# Sections, and how many blocks of SQL there are.
for my $case (
	[ 'README.md', '1. Read a column', 3 ], [ 'README.md', '3. A mode and a prompt', 1 ], [ 'README.md', '5. Limits and memory', 1 ],
	[ 'README.md', '6. Headings, tables and boxes', 1 ], [ 'README.md', '8. Many pages together', 1 ],
	[ 'doc/operations.md', 'Monitoring', 1 ], [ 'doc/immutability.md', 'When you change the model', 1 ])
{
	my ($document, $section, $count) = @$case;
	my @blocks = documented_sql($document, $section);
	is(scalar @blocks, $count, "$document, $section");
	for my $sql (@blocks)
	{
		my ($status, undef, $error) = $node->psql('postgres', $sql);
		is($status, 0, $sql) or diag($error);
	}
}
$node->stop;
done_testing();
