# Pages read together: each as if it were alone, within bounds of memory, and quick to be cancelled.
use strict;
use warnings;

use lib 'server';
use OcrTest;
use Cwd qw(abs_path);
use File::Basename;
use List::Util qw(min);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

# As in cancel.pl.
use constant { LATENCY_MS => 250, MEDIAN_MS => 60, GROWTH_KB => 4096 };

my $node = start_cluster('batch', "jit = off\ndeepseek_ocr.threads = 2");

# ---- the default model: its own pages, and the company that they may meet ----

$node->safe_psql('postgres', <<'SQL');
	CREATE TABLE mixed (id int GENERATED ALWAYS AS IDENTITY, image bytea);
	INSERT INTO mixed (image) SELECT image FROM pages ORDER BY name;
	INSERT INTO mixed (image) SELECT substr(image, 1, length(image) / 2) FROM pages ORDER BY name; -- cut short
	INSERT INTO mixed (image) VALUES (NULL), (''), ('no image');
	INSERT INTO mixed (image) SELECT overlay(image placing '\xdeadbeef' from 3000) FROM pages WHERE name = 'letter';
	INSERT INTO mixed (image) SELECT image FROM pages WHERE name IN ('letter', 'strip') ORDER BY name DESC;
SQL

# Ids of rows whose text in a batch is not the one that ocr() gives; empty if all is well.
sub differences
{
	my ($settings, $arguments) = @_;
	return $node->safe_psql('postgres', <<SQL);
		SET client_min_messages = error;
		$settings
		CREATE TEMP TABLE alone AS SELECT id, t.text, t.error, t.sqlstate FROM mixed LEFT JOIN ocr_try(image$arguments) AS t ON true;
		DO \$\$ BEGIN
			ASSERT (SELECT count(text) >= 4 AND count(sqlstate) >= 3 FROM alone), 'good and bad pages';
			ASSERT (SELECT count(DISTINCT text) > 1 FROM alone), 'of different texts';
		END \$\$;
		CREATE TEMP TABLE differ (size int, id int);
		DO \$\$
		DECLARE
			size int;
		BEGIN
			FOREACH size IN ARRAY ARRAY[1, 3] LOOP
				PERFORM set_config('deepseek_ocr.batch_size', size::text, false);
				INSERT INTO differ
				SELECT size, alone.id FROM alone JOIN (
					SELECT id, text FROM (SELECT array_agg(id ORDER BY id) AS ids, ocr_batch(array_agg(image ORDER BY id)$arguments) AS texts FROM mixed) AS read,
						unnest(ids, texts) AS together (id, text)) AS together USING (id)
				WHERE alone.text IS DISTINCT FROM together.text;
			END LOOP;
		END \$\$;
		SET deepseek_ocr.batch_size = 8;
		INSERT INTO differ
		SELECT 8, alone.id
		FROM alone FULL JOIN ocr_query('SELECT id, image FROM mixed ORDER BY id DESC'$arguments) AS together ON alone.id = together.key::int
		WHERE (alone.text, alone.error, alone.sqlstate) IS DISTINCT FROM (together.text, together.error, together.sqlstate);
		SELECT * FROM differ;
SQL
}

is($node->safe_psql('postgres', 'SELECT ocr_batch(array_agg(image ORDER BY name)) FROM pages WHERE name IN (\'scan\', \'strip\')'),
	'{"' . join('","', map { page_text($_) } qw(scan strip)) . '"}', 'the default model reads pages together');
is(differences('', ", 'tiny'"), '', 'as if each were alone');

my $order = $node->safe_psql('postgres', q{SELECT string_agg(key, ',') FROM ocr_query('SELECT id, image FROM mixed ORDER BY id % 5, id', 'tiny')});
is($order, $node->safe_psql('postgres', q{SELECT string_agg(id::text, ',' ORDER BY id % 5, id) FROM mixed}),
	'rows come in the query\'s order');

# ---- generated weights: every format and mode, exact and fast, and quantized ----

$node->safe_psql('postgres', 'DELETE FROM mixed WHERE id BETWEEN 2 AND 6 OR id > 12');
my %images;
for my $name (map { s/.*\/|\.json$//gr } sort glob 'goldens/nano_*.json')
{
	my $case = golden($name);
	next if $images{ $case->{image}{file} }++;
	load_image($node, 'postgres', $case);
	$node->safe_psql('postgres', 'INSERT INTO mixed (image) SELECT image FROM golden');
}

my $nano = nano_folder();
my $folder = abs_path(PostgreSQL::Test::Utils::tempdir());
$node->safe_psql('postgres', "SELECT ocr_quantize_model('$nano', '$folder/nano_$_', '$_')") for qw(q8 q4);

my $few = 'SET deepseek_ocr.max_tokens = 40;';
is(differences("SET deepseek_ocr.model = '$nano'; SET deepseek_ocr.compute = f32; $few", ", '$_'"), '', "exact, $_") for qw(tiny small);
is(differences("SET deepseek_ocr.model = '$nano'; $few", ", 'gundam', '<|grounding|>Convert the document to markdown.'"),
	'', 'fast, in tiles, with a prompt');

# Texts so long that pages of very different contexts meet, in as many slots as there can be.
for my $model ($nano, "$folder/nano_q8", "$folder/nano_q4")
{
	my $long = "SET client_min_messages = error; SET deepseek_ocr.model = '$model'; SET deepseek_ocr.max_tokens = 300; SET deepseek_ocr.no_repeat_ngram_size = 5;";
	is(differences($long, ", 'tiny'"), '', 'long texts, ' . basename($model));
	is($node->safe_psql('postgres', <<SQL), 't|t', 'sixteen at a time');
		$long
		SET deepseek_ocr.batch_size = 16;
		SELECT count(text) >= 24, bool_and(text IS NOT DISTINCT FROM alone)
		FROM (SELECT id, t.text AS alone FROM mixed, ocr_try(image, 'tiny') AS t) AS a
			JOIN ocr_query('SELECT id, image FROM mixed, generate_series(1, 4)', 'tiny') ON id = key::int;
SQL
}

# A golden text, among others.
my $case = golden('nano_alpha_tiny');
load_image($node, 'postgres', $case);
is($node->safe_psql('postgres', <<SQL), unpack('H*', golden_text($case)), 'the reference\'s text comes out of a batch');
	SET client_min_messages = error;
	SET deepseek_ocr.model = '$nano';
	SET deepseek_ocr.compute = f32;
	SET deepseek_ocr.no_repeat_ngram_size = $case->{no_repeat_ngram_size};
	SET deepseek_ocr.max_tokens = ${\scalar @{ $case->{tokens} }};
	SELECT encode(convert_to((ocr_batch(array_agg(mixed.image ORDER BY id) || golden.image, 'tiny'))[count(*) + 1], 'UTF8'), 'hex')
	FROM mixed, golden GROUP BY golden.image;
SQL

# ---- limits on memory ----

# The limit is on each page alone: what the smallest one needs lets it through, and no larger one.
my $needs = "SELECT id, substring(error, 'takes (\\d+) MB')::int AS mb FROM mixed, ocr_try(image, 'gundam') WHERE error LIKE '%takes%'";
is($node->safe_psql('postgres', <<SQL), 't|t', 'a page that takes too much is refused, and no other');
	SET client_min_messages = error;
	SET deepseek_ocr.model = '$nano';
	$few
	SET deepseek_ocr.max_session_memory = '1MB';
	CREATE TEMP TABLE needs AS $needs;
	SELECT set_config('deepseek_ocr.max_session_memory', min(mb) + 1 || 'MB', false) FROM needs \\gset
	SELECT bool_and((sqlstate IS NOT DISTINCT FROM 'OC005') = (mb > least)), count(*) FILTER (WHERE mb > least) > 0
	FROM ocr_query('SELECT id, image FROM mixed', 'gundam') JOIN needs ON id = key::int, (SELECT min(mb) AS least FROM needs) AS m
	WHERE mb <> least + 1; -- messages round
SQL

# A query that says, in place of a key, how much memory the pages in work have.
$node->safe_psql('postgres', <<'SQL');
	CREATE FUNCTION held() RETURNS bigint LANGUAGE plpgsql AS $$
	BEGIN
		RETURN (SELECT sum(total_bytes) FROM pg_backend_memory_contexts WHERE name = 'deepseek_ocr batch');
	END $$;
SQL
my $held = 'SELECT held(), image FROM pages, generate_series(1, 5)';
my @measured;
for my $most ('8GB', '100MB', '1MB')
{
	push @measured, [ split /\|/, $node->safe_psql('postgres', <<SQL) ];
		SET deepseek_ocr.max_batch_memory = '$most';
		SELECT max(key::bigint) / 1048576, md5(string_agg(text, ',' ORDER BY place))
		FROM (SELECT row_number() OVER () AS place, q.* FROM ocr_query(\$\$$held\$\$, 'tiny') AS q) AS q;
SQL
}
note("pages read together hold, MB: $measured[0][0], $measured[1][0] and $measured[2][0]");
cmp_ok($measured[0][0], '>', 100, 'pages read together take much memory');
cmp_ok($measured[1][0], '<=', 100, 'unless they may not');
cmp_ok($measured[2][0], '<', $measured[1][0], 'one page is read in any case');
is($measured[$_][1], $measured[0][1], 'the texts are the same') for 1, 2;

# What a backend has held at most, in kB.
sub peak_kb
{
	my ($pid) = @_;
	return (read_file("/proc/$pid/status") =~ /^VmHWM:\s+(\d+) kB/m)[0];
}

# Images of 2 MB, most of it zeros after the end: a query fetches one when there is a slot for it.
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->set_query_timer_restart; # all that follows takes long
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe("SET deepseek_ocr.model = '$nano'; SET deepseek_ocr.max_tokens = 1; SELECT ocr_batch(array_agg(image), 'tiny') FROM pages");
$session->query_safe(q{CREATE TABLE long AS SELECT image || decode(repeat('00', 2000000), 'hex') AS image FROM pages WHERE name = 'scan'});
my $before = peak_kb($pid);
is($session->query_safe(q{SELECT count(text) FROM ocr_query('SELECT i, image FROM long, generate_series(1, 150) AS i', 'tiny')}),
	150, 'a query over 300 MB of images');
my $growth = peak_kb($pid) - $before;
note("grows its backend by $growth kB");
cmp_ok($growth, '<', 32 * 1024, 'needs the memory of a few');

# A query may read pages itself, with other models and threads; those of the batch stay.
copy_folder($nano, "$folder/copy$_") for 1 .. 6;
is($session->query_safe(<<SQL), 't|6', 'a query that reads pages with other models meanwhile');
	SET deepseek_ocr.batch_size = 2;
	SELECT bool_and(text = ocr(image, 'tiny')), count(*)
	FROM pages, generate_series(1, 6) AS i,
		ocr_query(\$\$
			SELECT i, CASE WHEN set_config('deepseek_ocr.model', '$folder/copy' || i, false) <> ''
					AND set_config('deepseek_ocr.threads', (1 + i % 3)::text, false) <> ''
					AND ocr(image, 'tiny') <> '' THEN image END
			FROM pages, generate_series(1, 6) AS i WHERE name = 'scan' ORDER BY i\$\$, 'tiny') AS q
	WHERE name = 'scan' AND key::int = i;
	RESET deepseek_ocr.batch_size;
	RESET deepseek_ocr.threads;
SQL

# Instructions that such a query asks for are used when its pages have been read. Of texts so long those of other instructions differ.
is($session->query_safe(<<SQL), '4', 'a query that changes the level of instructions');
	SET deepseek_ocr.model = '$folder/nano_q8';
	SET deepseek_ocr.max_tokens = 300;
	CREATE TEMP TABLE usual AS SELECT name, ocr(image, 'tiny') AS text FROM pages;
	SELECT count(*) FROM usual JOIN ocr_query(\$\$
		SELECT name, CASE WHEN set_config('deepseek_ocr.cpu_level', 'portable', false) <> '' THEN image END FROM pages\$\$, 'tiny') AS q
		ON name = key AND usual.text = q.text;
SQL
my $equal = $session->query_safe(q{SELECT count(*) FROM usual JOIN pages USING (name) WHERE ocr(image, 'tiny') = text});
cmp_ok($equal, '<', 4, 'which other instructions change') if read_file('/proc/cpuinfo') =~ /\bavx2\b/;
$session->query_safe('RESET deepseek_ocr.cpu_level; RESET deepseek_ocr.model; RESET deepseek_ocr.max_tokens; DROP TABLE usual');

# A system that has no memory for four slots, and one that has none for any.
sub limit_memory
{
	my ($more_mb) = @_;
	my ($mapped_kb) = read_file("/proc/$pid/status") =~ /^VmSize:\s+(\d+) kB/m;
	system_or_bail('prlimit', "--pid=$pid", '--as=' . (defined $more_mb ? 1024 * ($mapped_kb + 1024 * $more_mb) : 'unlimited') . ':');
}

# In single precision a page takes so much that the C library does not keep what is given back.
$session->query_safe(q{RESET deepseek_ocr.model; RESET deepseek_ocr.max_tokens; SET deepseek_ocr.compute = 'f32'});
$session->query_safe(q{CREATE TEMP TABLE alone AS SELECT array_agg(ocr(image, 'tiny') ORDER BY name) AS texts FROM pages});
my $together = q{SELECT ocr_batch(array_agg(image ORDER BY name), 'tiny') = (SELECT texts FROM alone) FROM pages};
limit_memory(400);
is($session->query_safe($together), 't', 'four pages share the slots that there is memory for');
limit_memory(50);
$session->query($together);
like($session->{stderr}, qr/out of memory/, 'without memory for one it is an error');
$session->{stderr} = '';
limit_memory(undef);
is($session->query_safe($together), 't', 'after which the backend reads as before');
$session->query_safe('RESET deepseek_ocr.compute');

# ---- cancellation ----

sub contexts
{
	return $session->query_safe(
		"SELECT name, count(*) FROM pg_backend_memory_contexts WHERE name LIKE 'deepseek_ocr%' GROUP BY 1 ORDER BY 1");
}

my $batch = "SELECT length(ocr_batch(array_agg(image), 'tiny')::text) FROM pages, generate_series(1, 2);";
my $query = "SELECT sum(length(text)) FROM ocr_query('SELECT name, image FROM pages, generate_series(1, 2)', 'tiny');";
$session->query_safe('SET deepseek_ocr.batch_size = 5');

my $whole = min(map { my $begin = time; $session->query_safe($batch); 1000 * (time - $begin) } 1 .. 3);

srand 1;
my @timeouts = map { 1 + int(rand(0.9 * $whole)) } 1 .. 8;
my @cases = map { ([ $_, $batch ], [ $_, $query ]) } @timeouts;
my $canceled;

# Milliseconds after each timeout until its statement ends.
sub late
{
	my $script = join '', map { "SET statement_timeout = $_->[0];\n$_->[1]\n" } @_;
	$session->{stderr} = '';
	my $out = $session->query("\\timing on\n$script\n\\timing off");
	my $count = () = $session->{stderr} =~ /canceling statement due to statement timeout/g;
	$canceled //= $count;
	$session->query('RESET statement_timeout') for 1, 2; # the first is under a timeout itself
	$session->{stderr} = '';
	my @times = $out =~ /^Time: ([\d.]+) ms/mg;
	return map { $times[ 2 * $_ + 1 ] - $_[$_][0] } 0 .. $#_;
}

my @late = grep { $_ > 0 } least_of(LATENCY_MS, \&late, @cases);
cmp_ok($canceled, '>=', 8, "$canceled of 16 batches time out");
note(sprintf 'answers after the timeout, ms: median %.1f, largest %.1f', median(@late), (sort { $b <=> $a } @late)[0]);
cmp_ok(median(@late), '<', MEDIAN_MS, 'they end soon');
is(scalar(grep { $_ > LATENCY_MS } @late), 0, 'all of them');

# What these statements leave in the backend's private memory, in kB.
sub left_by
{
	my ($run) = @_;
	my $before = private_kb($pid);
	$run->();
	return private_kb($pid) - $before;
}
my $open = sub { scalar(my @open = glob "/proc/$pid/fd/*") };
$before = $open->();
my ($left) = least_of(GROWTH_KB, \&left_by, sub { late(@cases) });
note("16 more add $left kB of private memory");
cmp_ok($left, '<', GROWTH_KB, 'they leave no memory behind');
cmp_ok($open->(), '<=', $before, 'nor open files');
is(contexts(), 'deepseek_ocr model|4', 'of the memory contexts only those of the open models are left');
($left) = least_of(GROWTH_KB, \&left_by, sub { $session->query_safe($batch) });
cmp_ok($left, '<', GROWTH_KB, 'nor does a batch that ends well');
$session->quit;

# ---- rights and rows: those of the caller and of the statement ----

$node->safe_psql('postgres', 'CREATE ROLE reader');
my ($ret, $out, $err) = $node->psql('postgres',
	"\\set VERBOSITY sqlstate\nSET ROLE reader; SELECT * FROM ocr_query('SELECT name, image FROM pages')");
like($err, qr/42501/, 'a query reads no table that its caller may not read');
is($node->safe_psql('postgres', <<'SQL'), '1', 'nor rows that the statement does not see');
	BEGIN;
	CREATE TABLE own AS SELECT name, image FROM pages WHERE name = 'strip';
	WITH added AS (INSERT INTO own SELECT name, image FROM pages RETURNING name)
	SELECT count(*) FROM ocr_query('SELECT name, image FROM own', 'tiny');
	ROLLBACK;
SQL

$node->stop;
done_testing();
