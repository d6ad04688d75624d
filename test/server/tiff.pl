# TIFF documents: what scanners write, each page as if it were alone, and what nobody should have written.
use strict;
use warnings;

use lib 'server';
use Documents;
use OcrTest;
use Cwd qw(abs_path);
use File::Basename;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# For a document that is refused, on a busy machine.
use constant REFUSED_MS => 2000;

my $folder = abs_path(PostgreSQL::Test::Utils::tempdir());
my $node = start_cluster('tiff', "deepseek_ocr.model = '${\quick_folder(\"$folder/quick\")}'\ndeepseek_ocr.max_tokens = 12");
$node->safe_psql('postgres', 'CREATE TABLE documents (name text PRIMARY KEY, document bytea)');

sub add_document
{
	my ($name, $bytes) = @_;
	$node->safe_psql('postgres', "INSERT INTO documents VALUES ('$name', ${\bytea($bytes)})");
}

# ---- every kind of page, in one document ----

my %kind = map { basename($_, '.tif') => read_file($_) } glob 'goldens/formats/*.tif';
my @names = grep { $kind{$_} =~ /^II\*/ } sort keys %kind;    # a document has one kind of header
my %seen = map { $_ => 1 } @names;
ok($seen{$_}, "there is a page of $_")
  for qw(bits_group3 bits_group3_2d bits_group4 bits_lsb_first bits_packbits grey_lzw grey16 rgb_raw rgb_planes rgb_tiles
	rgb_tiles_planes rgb_ycc_jpeg palette_packbits cmyk_lzw rgba_deflate turned6);
add_document($_ => $kind{$_}) for keys %kind;
add_document(all => tiff_of_tiffs(map { $kind{$_} } @names));

my $order = join ', ', map { "'$_'" } @names;
is($node->safe_psql('postgres', qq{
		CREATE TABLE alone AS
			SELECT page, ocr(document, 'tiny') AS text FROM unnest(ARRAY[$order]) WITH ORDINALITY AS u (name, page) JOIN documents USING (name);
		CREATE TABLE together AS SELECT p.* FROM documents, ocr_pages(document, 'tiny') AS p WHERE name = 'all';
		SELECT count(*), count(t.text), count(DISTINCT t.text) > 5 FROM together AS t}),
	scalar(@names) . '|' . scalar(@names) . '|t', 'all pages are read, and differ');
is($node->safe_psql('postgres', 'SELECT page FROM alone FULL JOIN together AS t USING (page) WHERE t.text IS DISTINCT FROM alone.text'),
	'', 'each as if it were alone');
is($node->safe_psql('postgres', q{
		SELECT string_agg(name || ' ' || (p).page || coalesce((p).sqlstate, ''), ', ' ORDER BY name, p)
		FROM documents, ocr_pages(document, 'tiny') AS p WHERE name IN ('pages', 'rgb_bigtiff', 'rgb_big_endian')}),
	'pages 1, pages 2, pages 3, rgb_big_endian 1, rgb_bigtiff 1', 'other headers');

# ---- hostile ones ----

my $fax = $kind{bits_group4};
my $three = tiff_of_tiffs(($fax) x 3);

# Overwrite an entry's value in the first directory.
sub with_entry
{
	my ($tiff, $tag, $value) = @_;
	my ($at) = unpack 'x4 V', $tiff;
	for my $i (0 .. unpack('v', substr $tiff, $at, 2) - 1)
	{
		my $entry = $at + 2 + 12 * $i;
		substr($tiff, $entry + 8, 4) = pack 'V', $value if unpack('v', substr $tiff, $entry, 2) == $tag;
	}
	return $tiff;
}

# A chain of directories that all are the first page's, at the end of the file.
sub chain
{
	my ($count) = @_;
	my ($at) = unpack 'x4 V', $fax;
	my $directory = substr $fax, $at, 2 + 12 * unpack 'v', substr $fax, $at, 2;
	my $tiff = $fax . "\0" x (length($fax) % 2);
	substr($tiff, 4, 4) = pack 'V', length $tiff;
	for my $i (1 .. $count)
	{
		my $next = length($tiff) + length($directory) + 4;
		$tiff .= $directory . pack 'V', $i < $count ? $next : 0;
	}
	return $tiff;
}

# The last directory points back to the first.
my $ring = $three;
substr($ring, -4) = substr $ring, 4, 4;

for my $case (
	[ 'cut in half', substr($three, 0, length($three) / 2), qr/^1 (2 )?[23]?OC004$|^1OC004$/ ],
	[ 'a header alone', substr($fax, 0, 8), qr/^1OC00[124]$/ ],
	[ 'no directory where it should be', "II*\0\xFF\xFF\xFF\x7F", qr/^1OC00[124]$/ ],
	[ 'a ring of directories', $ring, qr/^1OC004$/ ],
	[ 'a page of 2147483647 pixels in a row', with_entry($three, 256, 0x7FFFFFFF), qr/^1OC00[456] 2 3$/ ],
	[ 'a page without pixels', with_entry($three, 257, 0), qr/^1OC00[1345] 2 3$/ ],
	[ 'data that are not there', with_entry($three, 273, 0x7FFFFFF0), qr/^1OC004 2 3$/ ],
	[ '60,000 pages', chain(60000), qr/^1 2 3 4 5 6OC005$/, 'SET deepseek_ocr.max_document_pages = 5;' ])
{
	my ($what, $bytes, $expected, $settings) = @$case;
	add_document($what, $bytes);
	my ($ms) = least_of(REFUSED_MS, sub {
		my $begin = time;
		like($node->safe_psql('postgres', ($settings // '') . qq{
				SELECT string_agg(page || coalesce(sqlstate, ''), ' ' ORDER BY page)
				FROM documents, ocr_pages(document, 'tiny') WHERE name = '$what'}), $expected, $what);
		return 1000 * (time - $begin);
	}, 1);
	cmp_ok($ms, '<', REFUSED_MS, 'soon');
}
is($node->safe_psql('postgres', q{SELECT count(*) FROM documents, ocr_try(document, 'tiny') AS t WHERE (t.text IS NULL) = (t.error IS NULL)}),
	'0', 'ocr_try() of each has a text or an error');
is($node->safe_psql('postgres', q{SELECT t.sqlstate FROM documents, ocr_try(document, 'tiny') AS t WHERE name = 'no directory where it should be'}) =~
	  /^OC00[124]$/, 1, 'of the page');

$node->stop;
done_testing();
