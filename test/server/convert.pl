# CALL ocr_convert(): whatever happens to it, each page is converted exactly once.
use strict;
use warnings;

use IPC::Run;
use lib 'server';
use OcrTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

use constant PAGES => 200;

# A model that reads small pages in some milliseconds; that it says the same of a page
# as ocr() does is all that matters here.
my $node = start_cluster('convert',
	"deepseek_ocr.model = '${\nano_folder()}'\ndeepseek_ocr.compute = f32\ndeepseek_ocr.max_tokens = 12\n"
	. "deepseek_ocr.threads = 1\nrestart_after_crash = on\nshared_preload_libraries = 'deepseek_ocr, pg_cron'");
$node->append_conf('postgresql.conf', "cron.host = '${\$node->host}'");
$node->restart;

sub query
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

# Run the statement in a session of its own; returns at once.
sub start
{
	my ($sql) = @_;
	my %session = (out => '', err => '');
	$session{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', $sql ],
		'>', \$session{out}, '2>', \$session{err}, IPC::Run::timeout(180));
	return \%session;
}

sub finish
{
	$_->{run}->finish for @_;
}

sub wait_for
{
	my ($sql) = @_;
	$node->poll_query_until('postgres', $sql) or die "in vain: $sql";
}

# As long as the session that this returns is there, jobs on scans stop when 50 pages for each number below this one have
# been written. However quick they are, they are at work until then.
sub gate
{
	my ($number) = @_;
	my $gate = $node->background_psql('postgres');
	$gate->query_safe("SELECT pg_advisory_lock($number)");
	return $gate;
}

load_numbered_pages($node, 'scans', PAGES);
query(q{
	CREATE TABLE truth AS SELECT id, ocr(image, 'tiny') AS content FROM scans;
	CREATE TABLE written (id integer, pid integer);
	CREATE FUNCTION note_write() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(count(*) / 50) FROM written;
		INSERT INTO written VALUES (NEW.id, pg_backend_pid());
		RETURN NEW;
	END $$;
	ALTER TABLE scans ADD content text;
	CREATE TRIGGER written AFTER UPDATE OF content ON scans
		FOR EACH ROW WHEN (NEW.content IS NOT NULL) EXECUTE FUNCTION note_write();
});
cmp_ok(query('SELECT count(DISTINCT content) FROM truth'), '>', PAGES / 2, 'the pages differ');

my $convert = q{CALL ocr_convert('scans', 'image', 'content', mode => 'tiny', batch_size => 8, notice_interval => NULL)};
my $wrong = q{SELECT count(*) FROM scans JOIN truth USING (id) WHERE scans.content IS DISTINCT FROM truth.content};

# ---- three sessions, one of them killed ----

my $gate = gate(2);
my @sessions = map { start($convert) } 1 .. 3;
wait_for('SELECT count(*) = 3 AND min(pages) >= 8 FROM ocr_progress');
my ($victim, @shown) = split /\|/, query('SELECT * FROM ocr_progress ORDER BY pages LIMIT 1');
is("@shown[1, 5]", 'scans 0', 'ocr_progress shows each of them');
kill_backend($node, $victim);
finish(@sessions, $gate);
my ($done, $writes) = split /\|/, query('SELECT (SELECT count(content) FROM scans), (SELECT count(*) FROM written)');
note("$done pages were converted when a session was killed");
cmp_ok($done, '<', PAGES, 'the killed session ends the others, too');
is($writes, $done, 'nothing is left of unfinished batches');
is(query(qq{$wrong AND scans.content IS NOT NULL}), 0, 'finished ones are correct');

# ---- the whole server is torn down while three others are at work ----

$gate = gate(3);
@sessions = map { start($convert) } 1 .. 3;
wait_for("SELECT count(content) > $done FROM scans");
$node->stop('immediate');
finish(@sessions, $gate);
$node->start;
($done, $writes) = split /\|/, query('SELECT (SELECT count(content) FROM scans), (SELECT count(*) FROM written)');
note("$done pages were converted when the server was torn down");
cmp_ok($done, '<', PAGES, 'the server ends before the work does');
is($writes, $done, 'again nothing is left of unfinished batches');

@sessions = map { start($convert) } 1 .. 3;
finish(@sessions);
is($_->{err}, '', 'no complaint') for @sessions;
my $sum = 0;
$sum += (split /\|/, $_->{out})[0] for @sessions;
is($sum, PAGES - $done, 'the rest is divided among three new sessions');
is(query($wrong), 0, 'every page is correct');
is(query('SELECT count(*), count(DISTINCT id) FROM written'), PAGES . '|' . PAGES, 'and was written once');

# ---- every minute, which is as long as the rest of this test takes ----

# The README's recipe for a table of this name, in a quick mode and at this time.
query('CREATE TABLE nightly AS SELECT id, image FROM scans WHERE id <= 20; ALTER TABLE nightly ADD PRIMARY KEY (id)');
my ($once, $failures, $by_page, $every_night) = map { s/\bscans\b/nightly/gr =~ s/('content')/$1, mode => 'tiny'/gr }
  documented_sql('README.md', '9. Nightly conversion');
is(query($once), '20|0', 'the recipe: a first time');
is(query($failures), '0|0', 'what failed, again');
is(query($by_page), '20|0', 'by pages');
query('UPDATE nightly SET content = NULL');
query($every_night =~ s/'0 1 /'* * /r);

# ---- cancelled and resumed, with bad images ----

query(q{
	UPDATE scans SET content = NULL;
	TRUNCATE written;
	CREATE TABLE good AS SELECT id, image FROM scans WHERE id % 20 = 7;
	UPDATE scans SET image = CASE WHEN id % 40 = 7 THEN substr(image, 1, 70) ELSE 'no image' END WHERE id % 20 = 7;
});
$gate = gate(3);
my $job = start($convert);
my $progress = q{FROM ocr_progress WHERE source = 'scans'::regclass}; # pg_cron's job may run just now
wait_for("SELECT pages >= 30 $progress");
query("SELECT pg_cancel_backend(pid) $progress");
finish($job);
$gate->quit;
like($job->{err}, qr/canceling statement due to user request/, 'cancelled');
my ($kept, $failed) = $job->{err} =~ /^(?:CONTEXT:  )?ocr_convert: (\d+) pages stored and committed, (\d+) failed$/m;
is(query('SELECT (SELECT count(content) FROM scans), (SELECT count(*) FROM ocr_failures)'),
	"$kept|$failed", 'the message says what is kept');
cmp_ok($kept, '<', PAGES - 10, 'which is not all');
is(query("SELECT count(*) $progress"), 0, 'ocr_progress has no line any more');

($done, $failed) = (PAGES - 10 - $kept, 10 - $failed);
is(query($convert), "$done|$failed", 'the next call does the rest');
is(query("$wrong AND id % 20 <> 7"), 0, 'every good page is correct');
is(query('SELECT count(*), count(DISTINCT id) FROM written'), '190|190', 'and was written once');
is(query(q{SELECT count(*), bool_and(sqlstate = CASE WHEN key::int % 40 = 7 THEN 'OC004' ELSE 'OC002' END),
		bool_and(source = 'scans'::regclass AND page = 1 AND attempts = 1 AND error <> '' AND role = 'postgres'::regrole)
	FROM ocr_failures WHERE key::int % 20 = 7}), '10|t|t', 'every bad row is recorded');
is(query($convert), '0|0', 'and not tried again');

query('UPDATE scans SET image = good.image FROM good WHERE scans.id = good.id AND scans.id < 100');
is(query($convert =~ s/\)$/, retry => true)/r), '5|5', 'unless asked to');
is(query('SELECT count(*), min(attempts), min(key::int) > 100 FROM ocr_failures'), '5|2|t', 'what succeeds is forgotten');
query(q{DELETE FROM ocr_failures WHERE key = '107'});
is(query($convert), '0|1', 'so is what the user deletes');
query('UPDATE scans SET image = good.image FROM good WHERE scans.id = good.id; TRUNCATE ocr_failures');

# ---- rows that others hold or move ----

query(q{UPDATE scans SET content = truth.content FROM truth WHERE scans.id = truth.id AND scans.content IS NULL;
	UPDATE scans SET content = NULL WHERE id <= 60});
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN; SELECT FROM scans WHERE id = 5 FOR UPDATE');
$job = start($convert);
wait_for('SELECT count(content) > 140 FROM scans');
query('UPDATE scans SET image = image WHERE id = 60');
finish($job);
is($job->{out}, "59|0\n", 'a row that somebody holds is left alone, one that moves is not missed');
$holder->query_safe('COMMIT');
$holder->quit;
is(query($convert), '1|0', 'until it is free');
is(query($wrong), 0, 'all are correct');

# ---- a table for the texts; a row that cannot be written ----

query(q{
	CREATE TABLE texts (id bigint REFERENCES scans, page integer, body varchar CHECK (id <> 33), PRIMARY KEY (id, page));
	SET default_transaction_isolation = 'serializable';
	CALL ocr_convert('scans', 'image', 'body', target_table => 'texts', mode => 'tiny', filter => 'id BETWEEN 20 AND 80 -- few');
});
is(query('SELECT count(*), count(DISTINCT id), bool_and(page = 1 AND body = content) FROM texts JOIN truth USING (id)'),
	'60|60|t', 'a row for each page in a table of their own');
is(query('SELECT source, key, sqlstate FROM ocr_failures'), 'scans|33|23514', 'without the one that it does not take');
is(query(q{CALL ocr_convert('scans', 'image', 'body', target_table => 'texts', mode => 'tiny', filter => 'id < 81')}),
	'19|0', 'and later the others');
query('TRUNCATE ocr_failures');

# ---- a trigger that undoes the work ----

query(q{
	CREATE TABLE undone AS SELECT id, image, NULL::text AS content FROM scans WHERE id <= 10;
	ALTER TABLE undone ADD PRIMARY KEY (id);
	CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		IF NEW.id = 3 THEN RETURN NULL; END IF;
		IF NEW.id = 4 THEN NEW.content := NULL; END IF;
		IF NEW.id = 5 THEN RAISE 'not this one' USING ERRCODE = 'DS001'; END IF;
		RETURN NEW;
	END $$;
	CREATE TRIGGER undo BEFORE UPDATE ON undone FOR EACH ROW EXECUTE FUNCTION undo();
});
is(query(q{CALL ocr_convert('undone', 'image', 'content', mode => 'tiny')}), '9|2', 'a job ends although its work is undone');
is(query('SELECT count(content) FROM undone'), '7', 'the other rows have their texts');
is(query('SELECT key, sqlstate FROM ocr_failures ORDER BY 1'), "3|09000\n5|DS001", 'what a trigger prevents is a failure');
query('TRUNCATE ocr_failures');

# ---- constraints that wait for the commit; tables that inherit ----

query(q{
	CREATE TABLE known (id integer PRIMARY KEY);
	INSERT INTO known SELECT n FROM generate_series(1, 10) AS n WHERE n <> 7;
	CREATE TABLE late AS SELECT id, image, NULL::integer AS known, NULL::text AS content FROM scans WHERE id <= 10;
	UPDATE late SET known = CASE WHEN id <> 7 THEN id END;
	ALTER TABLE late ADD PRIMARY KEY (id), ADD FOREIGN KEY (known) REFERENCES known DEFERRABLE INITIALLY DEFERRED;
	CREATE FUNCTION know() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.known := NEW.id; RETURN NEW; END';
	CREATE TRIGGER know BEFORE UPDATE ON late FOR EACH ROW EXECUTE FUNCTION know();
	CREATE TABLE later (PRIMARY KEY (id)) INHERITS (late);
	INSERT INTO later SELECT id, image FROM scans WHERE id <= 3;
});
is(query(q{CALL ocr_convert('late', 'image', 'content', mode => 'tiny')}), '9|1', 'a deferred constraint');
is(query('SELECT source, key, sqlstate FROM ocr_failures'), 'late|7|23503', 'is its row\'s failure');
is(query('SELECT count(content) FROM later'), '0', 'a table that inherits is another one');
is(query(q{CALL ocr_convert('later', 'image', 'content', mode => 'tiny')}), '3|0', 'with a call of its own');
query('TRUNCATE ocr_failures');

# ---- a table that changes between two batches, of its second row and its third ----

for my $change (
	[ 'ALTER image TYPE integer USING 77', qr/cannot cast type integer to bytea/ ],
	[ 'DROP CONSTRAINT changing_pkey, ALTER id DROP NOT NULL, ALTER id TYPE integer USING NULL', qr/^$/ ],
	[ 'DROP content', qr/column changing.content does not exist/ ])
{
	my ($alter, $expected) = @$change;
	query(q{
		DROP TABLE IF EXISTS changing;
		CREATE TABLE changing AS SELECT id, image, NULL::text AS content FROM scans WHERE id <= 5 ORDER BY id;
		ALTER TABLE changing ADD PRIMARY KEY (id);
		CREATE OR REPLACE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF NEW.id = 2 THEN PERFORM pg_advisory_xact_lock(1); END IF;
			RETURN NEW;
		END $$;
		CREATE TRIGGER pause BEFORE UPDATE ON changing FOR EACH ROW EXECUTE FUNCTION pause();
	});
	my $gate = $node->background_psql('postgres');
	$gate->query_safe('SELECT pg_advisory_lock(1)');
	my $job = start(q{CALL ocr_convert('changing', 'image', 'content', mode => 'tiny', batch_size => 1, notice_interval => NULL)});
	wait_for(q{SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted});
	my $other = start("ALTER TABLE changing $alter");
	wait_for(q{SELECT count(*) = 1 FROM pg_locks WHERE relation = 'changing'::regclass AND NOT granted});
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	$gate->quit;
	finish($job, $other);
	like($job->{err}, $expected, "the table changes meanwhile: $alter");
	is($other->{err}, '', 'as soon as it is free');
}

# ---- two jobs on one table ----

query(q{
	CREATE TABLE sheets AS SELECT id, image AS front, image AS back, NULL::text AS front_text, NULL::text AS back_text
		FROM scans WHERE id <= 3;
	ALTER TABLE sheets ADD PRIMARY KEY (id);
	UPDATE sheets SET front = 'no image' WHERE id = 2;
	UPDATE sheets SET back = 'no image' WHERE id = 3;
});
my ($front, $back) = map { "CALL ocr_convert('sheets', '$_', '${_}_text', mode => 'tiny', retry => true)" } qw(front back);
is(query("$front; $back"), "2|1\n2|1", 'what failed for one job is pending for another');
is(query($front), '0|1', 'a retry of one');
is(query('SELECT source, image, target_table, target, key, attempts FROM ocr_failures ORDER BY key'),
	"sheets|front|sheets|front_text|2|2\nsheets|back|sheets|back_text|3|1", 'leaves the record of the other alone');
query('ALTER TABLE sheets DROP back_text');
is(query($front), '0|1', 'another retry');
is(query('SELECT key FROM ocr_failures'), '2', 'forgets jobs whose columns are gone');
query('TRUNCATE ocr_failures');

# ---- a key whose type has a length ----

query(q{
	CREATE TABLE coded (code character(8), bits bit(4), image bytea, PRIMARY KEY (code, bits));
	INSERT INTO coded SELECT 'page ' || id, id::int::bit(4), image FROM scans WHERE id <= 4;
	CREATE TABLE coded_texts (code character(8), bits bit(4), page integer, body text, PRIMARY KEY (code, bits, page));
});
my $coded = q{CALL ocr_convert('coded', 'image', 'body', target_table => 'coded_texts', mode => 'tiny')};
is(query("$coded; $coded"), "4|0\n0|0", 'a key of characters and bits');

# ---- failures are recorded with the rights of the caller, who may own the schema ----

query('CREATE ROLE app LOGIN; CREATE DATABASE app OWNER app');
$node->safe_psql('app', 'CREATE EXTENSION deepseek_ocr; CREATE SCHEMA data AUTHORIZATION app');
$node->safe_psql('app', qq{
	SET ROLE app;
	CREATE TABLE data.scans (id integer PRIMARY KEY, image bytea, content text);
	INSERT INTO data.scans VALUES (1, ${\bytea(read_file('demo/pages/strip.png'))}), (2, 'no image');
	CREATE FUNCTION data.climb() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN ALTER ROLE app SUPERUSER; RETURN NEW; END';
	CREATE FUNCTION data.replace() RETURNS trigger LANGUAGE plpgsql AS \$\$
	BEGIN
		ALTER SCHEMA public RENAME TO old;
		CREATE SCHEMA public;
		CREATE TABLE public.ocr_failures (LIKE old.ocr_failures INCLUDING ALL);
		CREATE TRIGGER climb BEFORE INSERT ON public.ocr_failures FOR EACH ROW EXECUTE FUNCTION data.climb();
		RETURN NEW;
	END \$\$;
	CREATE TRIGGER replace AFTER UPDATE ON data.scans FOR EACH ROW EXECUTE FUNCTION data.replace();
});
my (undef, undef, $error) = $node->psql('app',
	q{SET ROLE app; CALL ocr_convert('data.scans', 'image', 'content', mode => 'tiny', batch_size => 1)});
like($error, qr/must be superuser|permission denied/, 'a table put in the place of ocr_failures');
is(query(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'app'}), 'f', 'gains nothing');

# ---- many rows and failures, of which the planner knows nothing or everything ----

query(q{
	CREATE TABLE many AS SELECT n AS id, CASE WHEN n > 5 THEN 'no image'::bytea END AS image, NULL::text AS content
		FROM generate_series(1, 250000) AS n;
	UPDATE many SET image = scans.image FROM scans WHERE many.id = scans.id AND many.id <= 5;
	ALTER TABLE many ADD PRIMARY KEY (id);
	INSERT INTO ocr_failures (role, source, image, target_table, target, key, page, error, sqlstate, failed_at)
		SELECT 'postgres', 'many', 'image', 'many', 'content', id, 1, '', 'OC002', now() FROM many WHERE id > 5;
});
for my $known ('', 'ANALYZE ocr_failures;')
{
	query("UPDATE many SET content = NULL WHERE id <= 5; $known");
	is(query(q{SET statement_timeout = '30s'; CALL ocr_convert('many', 'image', 'content', mode => 'tiny')}), '5|0',
		'rows are not compared with each failure');
}
query('TRUNCATE ocr_failures; DROP TABLE many');

# ---- who may not record a failure ----

query(q{
	CREATE ROLE barred;
	CREATE TABLE few AS SELECT id, image, NULL::text AS content FROM scans WHERE id <= 2;
	ALTER TABLE few ADD PRIMARY KEY (id);
	GRANT SELECT, UPDATE ON few TO barred;
	REVOKE INSERT ON ocr_failures FROM PUBLIC;
});
(undef, undef, $error) = $node->psql('postgres', q{SET ROLE barred; CALL ocr_convert('few', 'image', 'content', mode => 'tiny', batch_size => 1)});
like($error, qr/permission denied for table ocr_failures/, 'the right to record failures is asked for');
is(query('SELECT count(content) FROM few'), 0, 'before any page is read');
query('GRANT INSERT ON ocr_failures TO PUBLIC');
is(query(q{SET ROLE barred; CALL ocr_convert('few', 'image', 'content', mode => 'tiny')}), '2|0', 'with it the job runs');
query('DROP TABLE few; DROP ROLE barred');

# ---- triggers that wait for each other ----

query(q{
	CREATE TABLE folders (id int PRIMARY KEY, done int DEFAULT 0);
	INSERT INTO folders VALUES (1), (2);
	CREATE TABLE filed AS SELECT id, id AS folder, image, NULL::text AS content FROM scans WHERE id <= 2 ORDER BY id;
	ALTER TABLE filed ADD PRIMARY KEY (id);
	CREATE FUNCTION count_page() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			UPDATE folders SET done = done + 1 WHERE id = NEW.folder;
			PERFORM pg_sleep(1);
			RETURN NEW;
		END $$;
	CREATE TRIGGER count_page BEFORE UPDATE ON filed FOR EACH ROW EXECUTE FUNCTION count_page();
});
my $other = $node->background_psql('postgres');
$other->query_safe(q{SET deadlock_timeout = '5min'; BEGIN; UPDATE folders SET done = done + 1 WHERE id = 2});
my $filing = start(q{CALL ocr_convert('filed', 'image', 'content', mode => 'tiny')});
wait_for(q{SELECT count(*) = 1 FROM pg_stat_activity WHERE query LIKE 'CALL %filed%' AND wait_event = 'PgSleep'});
$other->query_safe('UPDATE folders SET done = done + 1 WHERE id = 1; COMMIT'); # waits for the job, which is going to wait for it
$other->quit;
finish($filing);
is($filing->{out} . $filing->{err}, "2|0\n", 'a job whose trigger met a deadlock stores its pages all the same');
is(query('SELECT count(content) FROM filed'), 2, 'both of them');
is(query('SELECT done FROM folders ORDER BY id'), "2\n2", 'and what its trigger did, it did once');
query('DROP TABLE filed, folders; DROP FUNCTION count_page');

# ---- odd names, a key of two columns, collations, partitions, a hostile search_path ----

query(q{
	CREATE SCHEMA "Odd "" schema";
	CREATE TABLE "Odd "" schema"."select" ("from" text COLLATE "C", "Order" integer, "image '"" bytes" bytea, "Text " text,
		PRIMARY KEY ("from", "Order")) PARTITION BY LIST ("Order");
	CREATE TABLE "Odd "" schema".one PARTITION OF "Odd "" schema"."select" FOR VALUES IN (1);
	CREATE TABLE "Odd "" schema".rest PARTITION OF "Odd "" schema"."select" DEFAULT;
	INSERT INTO "Odd "" schema"."select" SELECT 'it''s "' || id, id % 3, image FROM scans WHERE id <= 30;
	INSERT INTO "Odd "" schema"."select" VALUES ('bad, "row"', 1, 'no image'), ('no image', 2, NULL);
	CREATE TABLE "Odd "" schema"."table" ("from" text COLLATE "POSIX", "Order" smallint, page integer, "Text " text,
		UNIQUE (page, "from", "Order"));

	CREATE SCHEMA evil;
	CREATE TABLE evil.ocr_failures (role name);
	CREATE DOMAIN evil.text AS pg_catalog.text CHECK (false);
});
for my $type (map { "pg_catalog.$_" } qw(text name oid regclass tid int4 int2 timestamptz bytea bool))
{
	query("CREATE FUNCTION evil.no($type, $type) RETURNS boolean LANGUAGE plpgsql AS \$\$ BEGIN RAISE 'evil'; END \$\$");
	query("CREATE OPERATOR evil.$_ (LEFTARG = $type, RIGHTARG = $type, FUNCTION = evil.no)") for qw(= >= + <>);
}
my $hostile = 'SET search_path = evil, pg_catalog;';
my $odd = q{public.ocr_convert('"Odd "" schema"."select"', 'image ''" bytes', 'Text ', mode => 'tiny'};
is(query(qq{$hostile CALL $odd, filter => '"select"."Order" OPERATOR(pg_catalog.=) 1')}), '10|1', 'odd names; a filter');
is(query(qq{$hostile CALL $odd)}), '20|0', 'the other partition');
is(query(qq{$hostile CALL $odd, retry => true)}), '0|1', 'a retry');
is(query(qq{$hostile CALL $odd, target_table => '"Odd "" schema"."table"')}), '30|1', 'a table for the texts');
is(query(q{SELECT count(*), bool_and(a."Text " = b."Text " AND content = a."Text ")
	FROM "Odd "" schema"."select" AS a JOIN "Odd "" schema"."table" AS b ON a."from" = b."from" COLLATE "C" AND a."Order" = b."Order"
		JOIN truth ON id = regexp_replace(a."from", '\D', '', 'g')::int}), '30|t', 'all are correct');
is(query('SELECT DISTINCT source, image, target, key FROM ocr_failures'),
	q{"Odd "" schema"."select"|image '" bytes|Text |("bad, ""row""",1)}, 'failures name their row');

# ---- nearly all of a job's time is the engine's ----

query(q{
	CREATE TABLE timed AS SELECT row_number() OVER () AS id, image, NULL::text AS content FROM pages, generate_series(1, 3);
	ALTER TABLE timed ADD PRIMARY KEY (id);
	CREATE INDEX ON timed USING gin (to_tsvector('english', content));
});
my ($ratio) = query(q{
	SET deepseek_ocr.model = 'default';
	SET deepseek_ocr.compute = auto;
	SET deepseek_ocr.max_tokens = 0;
	CREATE TEMP VIEW engine AS SELECT image_ms + encode_ms + prefill_ms + decode_ms AS ms FROM pg_stat_ocr WHERE datname = current_database();
	SELECT ocr_load() IS NULL;
	SELECT ms AS before, extract(epoch FROM clock_timestamp()) AS begin FROM engine \gset
	CALL ocr_convert('timed', 'image', 'content');
	SELECT round(((ms - :before) / 1000 / (extract(epoch FROM clock_timestamp()) - :begin))::numeric, 3) FROM engine;
}) =~ /([\d.]+)\z/;
cmp_ok($ratio, '>=', 0.9, "a job's pages are read as fast as the engine reads them together: $ratio");

# ---- what pg_cron did ----

wait_for('SELECT count(content) = 20 FROM nightly');
wait_for(q{SELECT count(*) > 0 FROM cron.job_run_details WHERE status = 'succeeded'});
is(query(q{SELECT count(*) FROM cron.job_run_details WHERE status = 'failed'}), 0, 'pg_cron runs the job');
is(query(q{SELECT count(*) FROM nightly JOIN truth USING (id) WHERE nightly.content = truth.content}), '20', 'which is correct');
query('DROP EXTENSION pg_cron');

# ---- a dump leaves the failures out ----

my $dump = $node->basedir . '/dump';
$node->command_ok([ 'pg_dump', '-d', $node->connstr('postgres'), '-f', $dump, '-T', 'pages' ], 'pg_dump');
unlike(read_file($dump), qr/no_image|bad, ""row|COPY public\.ocr_failures/, 'which says nothing of failures');
query('CREATE ROLE owner LOGIN; CREATE DATABASE owned OWNER owner');
$node->safe_psql('owned', 'CREATE EXTENSION deepseek_ocr');
$node->command_ok([ 'pg_dump', '-d', $node->connstr('owned'), '-U', 'owner', '-f', $dump ], 'an owner who is no superuser can dump');

# ---- notices ----

query('UPDATE scans SET content = NULL WHERE id <= 40');
$job = start($convert =~ s/NULL/'10 ms'/r);
finish($job);
like($job->{err}, qr{^NOTICE:  \d+ of 40 rows, \d+ pages, 0 failed, \d+\.\d pages/min, \d+:\d\d:\d\d left$}m, 'progress in notices');

$node->stop;
done_testing();
