# From a prompt to markdown, rows, boxes and a picture: models that recite make the text known.
use strict;
use warnings;

use lib 'server';
use OcrTest;
use Reciting;
use Compress::Zlib;
use Cwd qw(abs_path);
use PostgreSQL::Test::Utils;
use Test::More;

use constant { LATENCY_MS => 250 };

my $node = start_cluster('layout', 'deepseek_ocr.threads = 2');
my $folders = abs_path(PostgreSQL::Test::Utils::tempdir());

my $page = reciting_folder("$folders/page", ' to markdown.',
	"Draft\n\n", '<|ref|>', 'title', '<|/ref|>', '<|det|>', '[[70, 35, 500, 88]]', '<|/det|>', "\n# Report \\coloneqq 1  \n\n",
	"<|ref|>image<|/ref|><|det|>[[100, 100, 400, 300], [899, 300, 500, 100]]<|/det|>\n",
	"<|ref|>image_caption<|/ref|><|det|>[[0, 310, 999, 330]]<|/det|>\n<center>Two pears</center>  \n\n",
	"<|ref|>table<|/ref|><|det|>[[5, 400, 1200, 600]]<|/det|>\n<table>", '<tr>', '<td>', 'pear', '</td>', '</tr>', "</table>  \n\n",
	"<|ref|>image<|/ref|><|det|>[[1, 2, __import__('os')]]<|/det|>\n",
	"<|ref|>text<|/ref|> <|det|>[[1, 2, 3, 4]]<|/det|> is no markup.");
my $question = reciting_folder("$folders/question", ' in the image.',
	'<|ref|>', 'the pear', '<|/ref|>', '<|det|>', '[[10, 20, 30, 40], [500, 500, 999, 999]]', '<|/det|>');
my $blank = reciting_folder("$folders/blank", ' to markdown.');
my $plain = reciting_folder("$folders/plain", ' to markdown.', "  Nothing but text.\n");

# A photograph that lies on its side: people see 480 x 640 pixels.
load_image($node, 'postgres', golden('nano_exif6_base'));

sub ask
{
	my ($folder, $query) = @_;
	return $node->safe_psql('postgres', "SET deepseek_ocr.model = '$folder'; $query");
}

# ---- what is said ----

my $said = ask($page, q{SELECT ocr(image, 'tiny', '<|grounding|>Convert the document to markdown.') FROM golden});
like($said, qr/^Draft\n\n<\|ref\|>title<\|\/ref\|><\|det\|>\[\[70, 35.*is no markup\.$/s, 'the model recites, marks and all');
unlike(ask($page, q{SELECT ocr(image, 'tiny') FROM golden}), qr/Draft/, 'but not if it is asked for something else');

is(ask($page, q{SELECT ocr_markdown(image, 'tiny') FROM golden}), <<'TEXT' =~ s/\n\z//r, 'markdown');
Draft


# Report := 1  

![](images/0.jpg)


<center>Two pears</center>  


<table><tr><td>pear</td></tr></table>  

![](images/1.jpg)

<|ref|>text<|/ref|> <|det|>[[1, 2, 3, 4]]<|/det|> is no markup.
TEXT

is(ask($page, q{SELECT l.* FROM golden, ocr_layout(image, 'tiny') AS l}), <<'ROWS' =~ s/\n\z//r, 'rows');
1|||Draft
2|title|(240,56),(33,22)|# Report \coloneqq 1
3|image|(192,192),(48,64)|
3|image|(431,192),(240,64)|
4|image_caption|(480,211),(0,198)|<center>Two pears</center>
5|table|(480,384),(2,256)|<table><tr><td>pear</td></tr></table>
6|image||<|ref|>text<|/ref|> <|det|>[[1, 2, 3, 4]]<|/det|> is no markup.
ROWS
is(ask($page, q{SELECT ord, label IS NULL, box IS NULL, text IS NULL, text = '' FROM golden, ocr_layout(image, 'tiny')}),
	"1|t|t|f|f\n2|f|f|f|f\n3|f|f|f|t\n3|f|f|t|\n4|f|f|f|f\n5|f|f|f|f\n6|f|t|f|f",
	'a block without text has an empty one, and further boxes of a block have none');
is(ask($page, q{SELECT string_agg(label, ' ' ORDER BY ord) FROM golden, ocr_layout(image, 'tiny') WHERE box && box '(0,0),(479,100)'}),
	'title image image', 'boxes are PostgreSQL\'s own');

# ---- questions ----

my $found = "(14,25),(4,12)\n(480,640),(240,320)";
is(ask($question, qq{SELECT ocr_locate(image, $_, 'tiny') FROM golden}), $found, "located: $_")
  for q{'the pear'}, q{'<image><|/ref|>'}, q{U&'\8868'}, q{repeat('a pear ', 500)};
is(ask($question, q{SELECT count(*), count(DISTINCT b.b::text) FROM golden, ocr_locate(image, 'the pear', 'tiny') AS b (b)}),
	'2|2', 'in FROM too');
is(ask($question, q{SELECT count(*) FROM golden, ocr_locate(image, NULL, 'tiny')}), '0', 'no phrase, no box');
is(ask($blank, q{SELECT count(*) FROM golden, ocr_locate(image, 'the pear', 'tiny')}), '0', 'no answer, no box');

my (undef, undef, $error) = $node->psql('postgres', <<SQL);
	\\set VERBOSITY verbose
	SET deepseek_ocr.model = '$question';
	SELECT ocr_locate(image, repeat('a pear ', 5000), 'tiny') FROM golden;
SQL
like($error, qr/OC008: .*positions/, 'a phrase beyond the context');

# ---- pages without layout ----

is(ask($blank, q{SELECT ocr_markdown(image, 'tiny') = '' FROM golden}), 't', 'a blank page has no text');
is(ask($blank, q{SELECT count(*) FROM golden, ocr_layout(image, 'tiny')}), '0', 'and no rows');
is(ask($plain, q{SELECT ocr_markdown(image, 'tiny') FROM golden}), 'Nothing but text.', 'text without layout is text');
is(ask($plain, q{SELECT l.* FROM golden, ocr_layout(image, 'tiny') AS l}), '1|||Nothing but text.', 'in one row');

# ---- pictures ----

# (width, height, pixels) of the JPEG that a query returns, as another program reads it.
sub picture
{
	my ($folder, $query) = @_;
	my $path = "$folders/picture";
	write_file("$path.jpg", pack 'H*', ask($folder, "SELECT encode(($query), 'hex')"));
	system_or_bail('djpeg', '-pnm', '-outfile', "$path.ppm", "$path.jpg");
	my ($width, $height, $pixels) = read_file("$path.ppm") =~ /^P6\s+(\d+)\s+(\d+)\s+255\s(.*)/s;
	return ($width, $height, $pixels);
}

my ($width, $height, $boxes) = picture($page, q{SELECT ocr_annotate(image, 'tiny') FROM golden});
is("$width x $height", '480 x 640', 'a picture is drawn upright');
my (undef, undef, $bare) = picture($blank, q{SELECT ocr_annotate(image, 'tiny') FROM golden});

# How far two colours are apart, red, green and blue together.
sub distance
{
	my @a = unpack 'C3', $_[0];
	my @b = unpack 'C3', $_[1];
	return abs($a[0] - $b[0]) + abs($a[1] - $b[1]) + abs($a[2] - $b[2]);
}

sub at
{
	my ($pixels, $x, $y) = @_;
	return substr $pixels, 3 * ($y * $width + $x), 3;
}

# Lines are one pixel broad here, and JPEG halves the resolution of colours.
my ($image, $table) = ("\x1B\x7A\x3D", "\x7A\x2F\xA8");
for my $line ([ 150, 64, $image ], [ 191, 100, $image ], [ 350, 191, $image ], [ 240, 100, $image ], [ 200, 383, $table ], [ 2, 300, $table ])
{
	my ($x, $y, $colour) = @$line;
	cmp_ok(distance(at($boxes, $x, $y), $colour), '<', distance(at($bare, $x, $y), $colour) / 2, "a line at ($x, $y)");
}
cmp_ok(distance(at($boxes, @$_), at($bare, @$_)), '<', 40, "none at ($_->[0], $_->[1])")
  for [ 20, 500 ], [ 460, 620 ], [ 120, 130 ], [ 215, 130 ];

# ---- limits and interruption ----

is(ask($page, q{SELECT count(*) FROM golden WHERE ocr_annotate(image, 'tiny') IS NULL OR ocr_annotate(NULL) IS NOT NULL}), '0', 'NULL is NULL');

# A PNG of so many white pixels in a row, with one bit each.
sub white_png
{
	my ($width, $height) = @_;
	my $chunk = sub { my $body = join '', @_; pack('N', length($body) - 4) . $body . pack('N', crc32($body)) };
	my $rows = compress(("\0" . "\xFF" x int(($width + 7) / 8)) x $height);
	return "\x89PNG\r\n\x1A\n" . $chunk->('IHDR', pack('NNC5', $width, $height, 1, 0, 0, 0, 0))
	  . $chunk->('IDAT', $rows) . $chunk->('IEND');
}

# A TIFF of so many such pages, all with the same pixels.
sub white_tiff
{
	my ($pages, $width, $height) = @_;
	my $pixels = "\xFF" x (int(($width + 7) / 8) * $height);
	my @entries = ([ 256, $width ], [ 257, $height ], [ 258, 1 ], [ 259, 1 ], [ 262, 1 ], [ 273, 8 ],
		[ 277, 1 ], [ 278, $height ], [ 279, length $pixels ]);
	my $tiff = pack('a4 V', "II*\0", 8 + length $pixels) . $pixels;
	for my $page (1 .. $pages)
	{
		$tiff .= pack('v', scalar @entries) . join '', map { pack 'vvVV', $_->[0], 4, 1, $_->[1] } @entries;
		$tiff .= pack 'V', $page < $pages ? 4 + length $tiff : 0;
	}
	return $tiff;
}

sub load_file
{
	my $hex = unpack 'H*', $_[0];
	$node->safe_psql('postgres', "TRUNCATE golden; INSERT INTO golden VALUES ('\\x$hex')");
}

load_file(white_tiff(2, 300, 200));
my (undef, $size, $notices) = $node->psql('postgres',
	"SET deepseek_ocr.model = '$page'; SELECT count(*) FROM golden, ocr_layout(ocr_annotate(image, 'tiny'), 'tiny') WHERE box <@ box '(0,0),(300,200)'");
is($size, '5', 'the first page of a document is drawn into');
is(scalar(() = $notices =~ /NOTICE/g), 1, 'with one notice that there are more');

load_file(white_png(65501, 300));
(undef, undef, $error) = $node->psql('postgres',
	"\\set VERBOSITY verbose\nSET deepseek_ocr.model = '$page'; SELECT ocr_annotate(image, 'tiny') FROM golden");
like($error, qr/OC003: .*65500/, 'a JPEG cannot be so long');

load_file(white_png(5000, 5000));
my $annotate = q{SELECT length(ocr_annotate(image, 'tiny')) > 0 FROM golden};
my $limit = q{SET deepseek_ocr.max_session_memory = '140MB';};
is(ask($page, qq{$limit SELECT count(*) FROM golden, ocr_layout(image, 'tiny')}), '7', 'little memory is enough to read a page');
(undef, undef, $error) = $node->psql('postgres', "\\set VERBOSITY verbose\nSET deepseek_ocr.model = '$page'; $limit $annotate");
like($error, qr/OC005: .*140 MB/, 'but not to draw into it');

# The quickest of three, so that a slow moment does not make all limits too long.
my ($large, $times) = split /\n/, ask($page, "$annotate;\n\\timing on\n" . "$annotate;\n" x 3), 2;
is($large, 't', 'a large picture');
my ($whole) = sort { $a <=> $b } $times =~ /^Time: ([\d.]+) ms/mg;
my @timeouts = map { int($whole * $_ / 12) } 1 .. 11;
my $canceled;

# Milliseconds after each timeout until its statement ends.
sub late
{
	my (undef, $out, $err) = $node->psql('postgres',
		"SET deepseek_ocr.model = '$page';\n$annotate;\n\\timing on\n"
		  . join('', map { "SET statement_timeout = $_;\n$annotate;\n" } @_), on_error_stop => 0);
	my $count = () = $err =~ /canceling statement due to statement timeout/g;
	$canceled //= $count;
	my @times = $out =~ /^Time: ([\d.]+) ms/mg;
	return map { $times[ 2 * $_ + 1 ] - $_[$_] } 0 .. $#_;
}
my @late = least_of(LATENCY_MS, \&late, @timeouts);
cmp_ok($canceled, '>=', 7, "$canceled of 11 statements time out");
is(scalar(grep { $_ > LATENCY_MS } @late), 0, 'and all of them at once');

$node->stop;
done_testing();
