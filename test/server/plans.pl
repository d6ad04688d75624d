# What the planner makes of ocr(): it is read last, and no more often than
# needed, and by several processes where the table allows it.
use strict;
use warnings;

use lib 'server';
use OcrTest;
use Cwd qw(abs_path);
use List::Util qw(max);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $folder = abs_path(PostgreSQL::Test::Utils::tempdir());
my $node = start_cluster('plans', <<CONF);
shared_preload_libraries = 'deepseek_ocr'
deepseek_ocr.model = '${\quick_folder("$folder/quick")}'
deepseek_ocr.max_tokens = 20
CONF
$node->safe_psql('postgres', q{
	CREATE TABLE boxes (box int, place text);
	INSERT INTO boxes SELECT box, CASE WHEN box % 10 = 0 THEN 'cellar' ELSE 'attic' END FROM generate_series(1, 100) AS box;
	CREATE TABLE scans (id int PRIMARY KEY, box int, image bytea);
	INSERT INTO scans SELECT id, id, image FROM pages, generate_series(1, 40) AS id
	  WHERE name = (ARRAY['strip', 'letter', 'receipt', 'scan'])[id % 4 + 1];
	CREATE INDEX ON scans (box);
	ANALYZE;
});

# Run a query; (pages that it read, its output)
sub count
{
	my ($query) = @_;
	my $before = pages_read($node);
	my $out = $node->safe_psql('postgres', $query);
	return (pages_read($node) - $before, $out);
}

# ---- last, and no more than needed ----

for my $case (
	[ 1, 'a cheap condition goes first', 'SELECT id FROM scans WHERE ocr(image) IS NOT NULL AND id + 0 = 7' ],
	[ 4, 'even after a costly look at the header',
		'SELECT id FROM scans WHERE ocr(image) IS NOT NULL AND vision_token_count(image) > 0 AND id + 0 <= 4' ],
	[ 3, 'a limit comes before the text', 'SELECT ocr(image) FROM scans ORDER BY md5(id::text) LIMIT 3' ],
	[ 4, 'a join by an index comes first',
		q{SELECT id FROM scans JOIN boxes USING (box) WHERE place = 'cellar' AND ocr(image) IS NOT NULL} ],
	[ 40, 'but not a join without one',
		q{SELECT id FROM scans JOIN boxes ON boxes.box = scans.box + 0 WHERE place = 'cellar' AND ocr(image) IS NOT NULL} ],
	[ 4, 'unless it is materialized',
		q{WITH found AS MATERIALIZED (SELECT id, image FROM scans JOIN boxes ON boxes.box = scans.box + 0 WHERE place = 'cellar')
			SELECT id FROM found WHERE ocr(image) IS NOT NULL} ],
	[ 1, 'ocr_try() in FROM reads once', 'SELECT t.* FROM scans, ocr_try(image) AS t WHERE id = 1' ],
	[ 3, 'in the select list once for each column', 'SELECT (ocr_try(image)).* FROM scans WHERE id = 1' ],
	[ 2, 'what is written twice is read twice', q{SELECT ocr(image) || ocr(image) FROM scans WHERE id = 1} ],
	[ 1, 'and once below OFFSET 0', q{SELECT text || text FROM (SELECT ocr(image) AS text FROM scans WHERE id = 1 OFFSET 0) AS s} ])
{
	my ($expected, $what, $query) = @$case;
	my ($pages) = count($query);
	is($pages, $expected, $what);
}

# ---- whose time it is, as doc/operations.md says of EXPLAIN (ANALYZE) ----

# The node or trigger that takes most of a statement's time, without what its children take.
sub slowest
{
	my ($statement) = @_;
	my $plan = $node->safe_psql('postgres', "BEGIN; EXPLAIN (ANALYZE, COSTS OFF) $statement; ROLLBACK");
	my (@open, %time);
	for my $line (split /\n/, $plan)
	{
		if ($line =~ /^Trigger .*: time=([\d.]+)/)
		{
			$time{trigger} = $1;
			$time{Insert} -= $1;    # of which it is a part
		}
		my ($indent, $name, $ms, $loops) = $line =~ /^( *(?:-> +)?)(\S+(?: Scan)?).*actual time=[\d.]+\.\.([\d.]+) rows=\S+ loops=(\d+)/ or next;
		pop @open while @open && $open[-1][0] >= length $indent;
		$time{ $open[-1][1] } -= $ms * $loops if @open;
		$time{$name} += $ms * $loops;
		push @open, [ length $indent, $name ];
	}
	return (sort { $time{$b} <=> $time{$a} } keys %time)[0];
}

$node->safe_psql('postgres', q{
	CREATE TABLE stored (id int, image bytea, content text GENERATED ALWAYS AS (ocr(image)) STORED);
	CREATE TABLE triggered (id int, image bytea, content text);
	CREATE FUNCTION read_image() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.content := ocr(NEW.image); RETURN NEW; END';
	CREATE TRIGGER read_image BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION read_image();
});
for my $case (
	[ 'Seq Scan', 'SELECT id FROM scans WHERE ocr(image) IS NOT NULL AND id + 0 < 5 ORDER BY md5(id::text)' ],
	[ 'Subquery Scan', 'SELECT ocr(image) FROM (SELECT image FROM scans ORDER BY md5(id::text) LIMIT 5) AS s' ],
	[ 'Insert', 'INSERT INTO stored SELECT id, image FROM scans WHERE id < 5' ],
	[ 'trigger', 'INSERT INTO triggered SELECT id, image FROM scans WHERE id < 5' ])
{
	my ($expected, $statement) = @$case;
	is(slowest($statement), $expected, "the time of ocr() is that of the $expected: $statement");
}

# ---- parallel query ----

# The recipe of the README, word by word, and what comes of it.
my (undef, undef, $recipe) = documented_sql('README.md', '1. Read a column');
my $read = 'SELECT id, ocr(image) AS content FROM scans';

sub plan_of
{
	my ($settings, $query) = @_;
	return $node->safe_psql('postgres', "$settings EXPLAIN (COSTS OFF) $query");
}

my ($set) = $recipe =~ /^(SET .*?;)/m or die;
unlike(plan_of($set, $read), qr/Gather/, 'images lie out of line: no parallel plan for such a small table');
$node->safe_psql('postgres', $recipe);
like(plan_of($set, $_), qr/Gather/, "parallel as the README has it: $_")
  for $read, "CREATE TABLE texts AS $read", "SELECT count(*) FROM scans WHERE ocr(image) ~ 'e'";
unlike(plan_of($set, $_), qr/Gather/, "not parallel, as the README says: $_")
  for "INSERT INTO scans (id, image) SELECT -id, image FROM scans WHERE ocr(image) ~ 'e'", 'UPDATE scans SET image = NULL WHERE ocr(image) IS NULL';

my $texts = 'SELECT id, content FROM (%s) AS s ORDER BY id';
my ($pages, $alone) = count('SET max_parallel_workers_per_gather = 0; ' . sprintf $texts, $read);
is($pages, 40, 'each page is read once by one process');
($pages, my $together) = count("$set " . sprintf $texts, $read);
is($pages, 40, 'and once by several');
is($together, $alone, 'which find the same texts');
isnt($alone, '', 'texts there are');
my ($workers) = $node->safe_psql('postgres', "$set EXPLAIN (ANALYZE, COSTS OFF) $read") =~ /Workers Launched: (\d+)/;
is($workers, 4, 'as many as the table allows');

# ---- cores ----

# Threads of a process.
sub threads_of
{
	my ($pid) = @_;
	return scalar(my @tasks = glob "/proc/$pid/task/*");
}

chomp(my $cores = `nproc`);
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->set_query_timer_restart;
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe("SELECT ocr(image) FROM scans WHERE id = 1");
is(threads_of($pid), $cores, 'one process takes all cores');

# Look at leader and worker until each has its share of the cores, which takes them a page, and then end the query.
my $share = max(1, int($cores / 2));
$node->safe_psql('postgres', q{
	-- Of many blocks, so that there are some for each process.
	CREATE TABLE work AS SELECT image, repeat(md5(n::text), 30) AS filler FROM scans, generate_series(1, 2000) AS n WHERE id = 1;
	ALTER TABLE work SET (parallel_workers = 4);
	ANALYZE work;
});
$session->query_until(qr/reading/, "SET max_parallel_workers_per_gather = 1;\n\\echo reading\n"
	  . "SELECT count(ocr(image, 'small')) FROM work;\n\\echo over\n");
my ($both, $shared);
for (my $end = time + 60; time < $end;)
{
	my @workers = split /\n/, $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE leader_pid = $pid");
	$both = 1 if @workers == 1;
	$shared = 1 if @workers == 1 && threads_of($pid) == $share && threads_of($workers[0]) == $share;
	last if $shared;
	sleep 0.02;
}
ok($both, 'a worker helps');
ok($shared, "each process has $share of $cores cores");
$node->safe_psql('postgres', "SELECT pg_cancel_backend($pid)");
$session->query_until(qr/over/, '');
$session->query("SELECT ocr(image) FROM scans WHERE id = 1");
is(threads_of($pid), $cores, 'alone again, all of them');
$session->quit;

$node->stop;
done_testing();
