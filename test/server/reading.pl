# The main job: pages in a table become text, with the library preloaded and
# without, in databases of any encoding.
use strict;
use warnings;

use lib 'server';
use OcrTest;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = start_cluster('reading');
my @pages = qw(letter receipt scan strip);

for my $page (@pages)
{
	is($node->safe_psql('postgres', "SELECT ocr(image) FROM pages WHERE name = '$page'"),
		page_text($page), "$page is read");
}

# The README's first page comes out as it is shown there.
my ($create, $first_page) = documented_sql('README.md', 'First page');
$node->safe_psql('postgres', 'CREATE DATABASE first_page');
$node->safe_psql('first_page', $create);
is($node->safe_psql('first_page', $first_page), page_text('receipt'), 'the README\'s first page is read');
my ($shown) = read_file('README.md') =~ /^-+\n(.*?)^```/ms;
$shown =~ s/^ | *\+?$//mg;
is($shown, page_text('receipt') . "\n", 'and shown as it is');

# The number of threads changes nothing, to the last bit.
my $fingerprint = q{SELECT md5(vision_tokens(image, 'tiny')::text) FROM pages WHERE name = 'strip'};
is($node->safe_psql('postgres', "SET deepseek_ocr.threads = 1; $fingerprint"),
	$node->safe_psql('postgres', "SET deepseek_ocr.threads = 3; $fingerprint"),
	'the number of threads changes no vision token');

# ---- processors ----

# Every level that this processor has reads the same in single precision; those below are
# never refused, those above always.
my $levels = <<'SQL';
	LOAD 'deepseek_ocr';
	SET deepseek_ocr.compute = f32;
	CREATE TEMP TABLE readings (level text, reading text, refusal text);
	DO $$
	DECLARE
		level text;
		reason text;
	BEGIN
		FOREACH level IN ARRAY '{portable,avx2,avx512,avx512_vnni,avx512_bf16,amx,auto}'::text[] LOOP
			BEGIN
				PERFORM set_config('deepseek_ocr.cpu_level', level, false);
				INSERT INTO readings SELECT level, ocr(image), NULL FROM pages WHERE name = 'strip';
			EXCEPTION WHEN invalid_parameter_value THEN
				GET STACKED DIAGNOSTICS reason = PG_EXCEPTION_DETAIL;
				INSERT INTO readings VALUES (level, NULL, reason);
			END;
		END LOOP;
	END $$;
SQL
my %reading;
my $best = '';
for (split /\n/, $node->safe_psql('postgres', "$levels SELECT level, coalesce('read: ' || reading, refusal) FROM readings"))
{
	my ($level, $outcome) = split /\|/, $_, 2;
	$reading{$level} = $outcome;
	$best = $1 if $outcome =~ /^This processor has "(\w+)" at most/;
}
my @levels = qw(portable avx2 avx512 avx512_vnni avx512_bf16 amx);
$best ||= 'amx';
my ($top) = grep { $levels[$_] eq $best } 0 .. $#levels;
is($reading{$_}, 'read: ' . page_text('strip'), "$_ reads") for @levels[ 0 .. $top ], 'auto';
is($reading{$_}, "This processor has \"$best\" at most.", "$_ is refused") for @levels[ $top + 1 .. $#levels ];
is($node->safe_psql('postgres', <<SQL), page_text('strip'), 'the lowest level reads in rounded numbers, too');
	LOAD 'deepseek_ocr';
	SET deepseek_ocr.cpu_level = portable;
	SELECT ocr(image) FROM pages WHERE name = 'strip'
SQL

# ---- preloading ----

# Threads of a process, or undef once it is gone.
sub threads_of
{
	my ($pid) = @_;
	return scalar(my @tasks = glob "/proc/$pid/task/*");
}

$node->append_conf('postgresql.conf', "shared_preload_libraries = 'deepseek_ocr'\ndeepseek_ocr.threads = 2");
$node->restart;
my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
is(threads_of($postmaster), 1, 'preloading starts no thread in the postmaster');
is($node->safe_psql('postgres', 'SHOW deepseek_ocr.threads'), '2', 'preloading brings the settings');
is($node->safe_psql('postgres', "SELECT ocr(image) FROM pages WHERE name = 'strip'"),
	page_text('strip'), 'a preloaded library reads');

my $session = $node->background_psql('postgres');
my $pid = $session->query_safe('SELECT pg_backend_pid()');
is(threads_of($pid), 1, 'a new backend has no threads yet');
$session->query_safe("SELECT ocr(image) FROM pages WHERE name = 'strip'");
is(threads_of($pid), 2, 'reading starts them');
$session->query_safe("SET deepseek_ocr.threads = 1; SELECT ocr(image) FROM pages WHERE name = 'strip'");
is(threads_of($pid), 1, 'and they go when fewer are wanted');
$session->quit;

# ---- encodings ----

# Random weights say things that Latin-1 has no letters for.
my $alpha = golden('nano_alpha_tiny');
my $nonsense = <<SQL;
	SET deepseek_ocr.model = '${\nano_folder()}';
	SET deepseek_ocr.compute = f32;
	SET deepseek_ocr.no_repeat_ngram_size = $alpha->{no_repeat_ngram_size};
	SET deepseek_ocr.max_tokens = ${\scalar @{ $alpha->{tokens} }};
SQL

for my $encoding (qw(UTF8 LATIN1 SQL_ASCII))
{
	$node->safe_psql('postgres',
		"CREATE DATABASE \"$encoding\" ENCODING '$encoding' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
	load_pages($node, $encoding);
	is($node->safe_psql($encoding, "SELECT ocr(image) FROM pages WHERE name = 'strip'"),
		page_text('strip'), "$encoding: a page is read");
	load_image($node, $encoding, $alpha);
}
is($node->safe_psql($_, "$nonsense SELECT convert_to(ocr(image, 'tiny'), current_setting('server_encoding')) FROM golden"),
	'\x' . unpack('H*', golden_text($alpha)), "$_: all of Unicode is kept")
  for qw(UTF8 SQL_ASCII);
is($node->safe_psql('LATIN1', q{SELECT length(ocr(image, 'tiny', U&'r\00e9sum\00e9')) >= 0 FROM pages WHERE name = 'strip'}),
	't', 'LATIN1: a prompt is converted');
my ($ret, $out, $err) =
  $node->psql('LATIN1', "\\set VERBOSITY sqlstate\n$nonsense SELECT ocr(image, 'tiny') FROM golden");
like($err, qr/22P05/, 'LATIN1: PostgreSQL\'s own error for characters that it has not');
is($node->safe_psql('LATIN1', "$nonsense SELECT t.text IS NULL, t.sqlstate FROM golden, ocr_try(image, 'tiny') AS t"),
	't|22P05', 'LATIN1: which ocr_try() returns');
($ret, $out, $err) = $node->psql('LATIN1', "\\set VERBOSITY sqlstate\n$nonsense SELECT ocr_batch(ARRAY[image], 'tiny') FROM golden");
is("$out $err", '{NULL} psql:<stdin>:6: WARNING:  22P05', 'LATIN1: and of which ocr_batch() warns');

$node->stop;
done_testing();
