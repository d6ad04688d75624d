# pg_stat_ocr: what it counts, for whom, and for how long.
use strict;
use warnings;

use lib 'server';
use OcrTest;
use Cwd qw(abs_path);
use PostgreSQL::Test::Utils;
use Test::More;

my $folders = abs_path(PostgreSQL::Test::Utils::tempdir());
my $quick = quick_folder("$folders/quick");

# A model without a choice: all logits are zero, so that token 0 comes next, for ever.
my $repeats = copy_folder($quick, "$folders/repeats");
for my $shard (glob "$repeats/*.safetensors")
{
	my ($header, $payload) = read_safetensors($shard);
	my $norm = $header->{'model.norm.weight'} or next;
	my ($from, $to) = @{ $norm->{data_offsets} };
	substr($payload, $from, $to - $from) = "\0" x ($to - $from);
	write_safetensors($shard, $header, $payload);
}

my $blank = bytea(grey_png(64, 64, sub { "\0" x 64 }));

my $node = start_cluster('statistics',
	"shared_preload_libraries = 'deepseek_ocr'\ndeepseek_ocr.model = '$quick'\ndeepseek_ocr.max_tokens = 3");

# Columns of this database's row.
sub stats
{
	my ($columns, $database) = @_;
	return $node->safe_psql($database // 'postgres',
		"SELECT $columns FROM pg_stat_ocr WHERE datname = current_database()");
}

sub errors
{
	return $node->safe_psql('postgres',
		"SELECT sqlstate, errors FROM pg_stat_ocr_errors WHERE datname = current_database() ORDER BY 1");
}

is(stats('pages, errors, vision_tokens, decode_ms, shared'), '0|0|0|0|t', 'nothing is counted yet');

# ---- what a page adds is what ocr_detail() says of it ----

$node->safe_psql('postgres', <<SQL);
	CREATE TABLE facts AS SELECT d.* FROM pages, ocr_detail(image) AS d WHERE name IN ('strip', 'letter');
	INSERT INTO facts SELECT d.* FROM pages, ocr_detail(image, 'small') AS d WHERE name = 'strip';
	SET deepseek_ocr.max_tokens = 1000;
	SET deepseek_ocr.no_repeat_ngram_size = 0;
	SET deepseek_ocr.model = '$repeats';
	INSERT INTO facts SELECT d.* FROM pages, ocr_detail(image) AS d WHERE name = 'strip';
	SET deepseek_ocr.model = 'default';
	INSERT INTO facts SELECT d.* FROM ocr_detail($blank, 'tiny') AS d;
	SET deepseek_ocr.min_confidence = 1;
	INSERT INTO facts SELECT d.* FROM pages, ocr_detail(image) AS d WHERE name = 'strip';
SQL
is($node->safe_psql('postgres', 'SELECT finish, count(*) FROM facts GROUP BY 1 ORDER BY 1'),
	"length|3\nloop|1\nstop|1\nunsure|1", 'pages with every kind of end');
is(stats('pages, blank_pages, loops, length_cuts, unsure, errors'), '6|2|1|3|1|0', 'are told apart');
is($node->safe_psql('postgres', q{
		SELECT s.vision_tokens = f.vision_tokens, s.text_tokens = f.tokens, abs(s.image_ms - f.image_ms) < 0.001,
			abs(s.encode_ms - f.encode_ms) < 0.001, abs(s.prefill_ms - f.prefill_ms) < 0.001,
			abs(s.decode_ms - f.decode_ms) < 0.001, f.tokens > 0 AND f.image_ms > 0 AND f.prefill_ms > 0
		FROM pg_stat_ocr AS s, (SELECT sum(vision_tokens) AS vision_tokens, sum(tokens) AS tokens, sum(image_ms) AS image_ms,
			sum(encode_ms) AS encode_ms, sum(prefill_ms) AS prefill_ms, sum(decode_ms) AS decode_ms FROM facts) AS f
		WHERE s.datname = current_database()}),
	't|t|t|t|t|t|t', 'tokens and times add up');

# Pages that each of these adds, though some are rolled back.
my %adds = (
	'SELECT ocr(image) FROM pages' => 4,
	'SELECT t.* FROM pages, ocr_try(image) AS t' => 4,
	'SELECT ocr_batch(array_agg(image)) FROM pages' => 4,
	q{SELECT * FROM ocr_query('SELECT name, image FROM pages')} => 4,
	'SELECT p.* FROM pages, ocr_pages(image) AS p' => 4,
	'SELECT ocr_markdown(image) FROM pages' => 4,
	'SELECT l.* FROM pages, ocr_layout(image) AS l' => 4,
	q{SELECT l.* FROM pages, ocr_locate(image, 'a pear') AS l} => 4,
	'SELECT ocr_annotate(image) FROM pages' => 4,
	q{CREATE TABLE jobs AS SELECT name, image, NULL::text AS content FROM pages; ALTER TABLE jobs ADD PRIMARY KEY (name);
		CALL ocr_convert('jobs', 'image', 'content')} => 4,
	'BEGIN; SELECT ocr(image) FROM pages; ROLLBACK' => 4,
	'SELECT vision_tokens(image) FROM pages' => 0,
	'SELECT vision_token_count(image) FROM pages' => 0,
	'SELECT ocr(NULL)' => 0);
for my $query (sort keys %adds)
{
	my $before = stats('pages');
	$node->safe_psql('postgres', $query);
	is(stats('pages') - $before, $adds{$query}, "counted: $query");
}

# ---- errors ----

is(errors(), '', 'no error so far');
my @said = map { ($node->psql('postgres', $_))[2] } "SELECT ocr('')", "SELECT vision_tokens('')",
  "SELECT ocr_try('no image') FROM generate_series(1, 3)",
  "SELECT ocr_batch(ARRAY['no image', '']::bytea[])",
  "SELECT ocr_pages('no document')",
  "SET deepseek_ocr.model = 'missing'; SELECT ocr('')",
  "SET deepseek_ocr.max_tokens = 0; SET statement_timeout = 100; SELECT ocr(image) FROM pages, generate_series(1, 1000) WHERE name = 'letter'",
  "SELECT vision_token_count('')";
is(scalar(grep { /statement timeout/ } @said), 1, 'a page is cancelled');
is(errors(), "58P01|1\nOC001|3\nOC002|5", 'errors are counted by SQLSTATE, raised or returned, but no cancelled page');
is(stats('errors'), 9, 'and in total');

# ---- databases, and who may forget ----

$node->safe_psql('postgres', 'CREATE DATABASE other; CREATE ROLE ordinary LOGIN');
$node->safe_psql('other', 'CREATE EXTENSION deepseek_ocr');
is(stats('pages, errors', 'other'), '0|0', 'another database has counts of its own');
$node->psql('other', "SELECT ocr('')");
my $here = stats('pages, errors');
my ($ret, $out, $err) = $node->psql('other', 'SET ROLE ordinary; SELECT pg_stat_ocr_reset()');
like($err, qr/permission denied/, 'an ordinary role cannot reset them');
is($node->safe_psql('other', 'SET ROLE ordinary; SELECT errors FROM pg_stat_ocr WHERE datname = current_database()'),
	'1', 'but sees them');
$node->safe_psql('other', 'GRANT EXECUTE ON FUNCTION pg_stat_ocr_reset TO ordinary; SET ROLE ordinary; SELECT pg_stat_ocr_reset()');
is(stats("errors, now() - stats_reset < '1 minute'", 'other'), '0|t', 'it can if it was granted');
is(stats('pages, errors'), $here, 'and that is nothing to the first database');
is($node->safe_psql('other', 'SELECT count(*) FROM pg_stat_ocr_errors WHERE datname = current_database()'), '0',
	'no error is left by code either');
$node->safe_psql('postgres', 'DROP DATABASE other');
is($node->safe_psql('postgres', 'SELECT datname IS NULL, count(*) FROM pg_stat_ocr GROUP BY 1 ORDER BY 1'), "f|1\nt|1",
	'the counts of a dropped database have no name');

# ---- the postmaster holds the counts, and nothing of the engine ----

my ($postmaster) = split /\n/, slurp_file($node->data_dir . '/postmaster.pid');
unlike(read_file("/proc/$postmaster/maps"), qr/safetensors/, 'no weights are mapped in the postmaster');
is(scalar(my @tasks = glob "/proc/$postmaster/task/*"), 1, 'and no thread runs there');

# ---- a crash ----

$node->append_conf('postgresql.conf', 'restart_after_crash = on');
$node->reload;
my $victim = $node->background_psql('postgres');
kill 'KILL', $victim->query_safe('SELECT pg_backend_pid()');
ok($node->poll_query_until('postgres',
		'SELECT pages = 0 AND errors = 0 AND shared FROM pg_stat_ocr WHERE datname = current_database()'),
	'after a crash counting begins anew');
$victim->{run}->finish;
$node->safe_psql('postgres', "SELECT ocr(image) FROM pages WHERE name = 'strip'");
is(stats('pages'), 1, 'and goes on');

# ---- without preloading ----

$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$node->restart;
my $session = $node->background_psql('postgres');
$session->query_safe("SELECT ocr(image) FROM pages WHERE name = 'strip'; SELECT (ocr_try('')).error;");
is($session->query_safe('SELECT s.pages, s.errors, s.shared, e.sqlstate FROM pg_stat_ocr AS s, pg_stat_ocr_errors AS e'),
	'1|1|f|OC001', 'without preloading a session counts what it reads');
is($node->safe_psql('postgres', 'SELECT pages, errors FROM pg_stat_ocr'), '0|0', 'which others do not see');
is($session->query_safe('SELECT pg_stat_ocr_reset(); SELECT pages, errors FROM pg_stat_ocr'), "\n0|0", 'and can forget it');
$session->quit;

$node->stop;
done_testing();
