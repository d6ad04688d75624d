# Several servers, as doc/scale-out.md sets them up: pages are read where they
# lie, as pg_stat_ocr of each server shows, and by all nodes at the same time.
use strict;
use warnings;

use lib 'server';
use OcrTest;
use Cwd qw(abs_path);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $folder = abs_path(PostgreSQL::Test::Utils::tempdir());
my $quick = quick_folder("$folder/quick");
my ($on_node) = documented_sql('doc/scale-out.md', 'On each node');
my ($on_front) = documented_sql('doc/scale-out.md', 'On the front');
my ($update, $selects, $convert) = documented_sql('doc/scale-out.md', 'Reading');

my %server;
for my $name (qw(front north south))
{
	my $node = $server{$name} = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
	$node->append_conf('postgresql.conf', "autovacuum = off\nshared_preload_libraries = 'deepseek_ocr'\n"
		  . "deepseek_ocr.model = '$quick'\ndeepseek_ocr.max_tokens = 20");
	$node->start;
	$node->safe_psql('postgres', 'CREATE DATABASE archive');
	next if $name eq 'front';
	$node->safe_psql('archive', $on_node);
	$on_front =~ s/host '$name\.example\.net'/host '${\$node->host}', port '${\$node->port}'/;
}
load_pages($server{front}, 'archive');
$server{front}->safe_psql('archive', $on_front =~ s/^CREATE EXTENSION deepseek_ocr;//r);

# Run SQL on the front: (pages read on front, north and south, in one string; the output)
sub count
{
	my ($sql) = @_;
	my @servers = @server{qw(front north south)};
	my @before = map { pages_read($_, 'archive') } @servers;
	my $out = $server{front}->safe_psql('archive', $sql);
	my @after = map { pages_read($_, 'archive') } @servers;
	return (join(' ', map { $after[$_] - $before[$_] } 0 .. 2), $out);
}

sub plan_of
{
	my ($query) = @_;
	return $server{front}->safe_psql('archive', "EXPLAIN (VERBOSE, COSTS OFF) $query");
}

# ---- loading ----

my ($read) = count(q{
	INSERT INTO scans (id, region, image)
	SELECT row_number() OVER (ORDER BY name), CASE WHEN name IN ('letter', 'receipt', 'scan') THEN 'north' ELSE 'south' END, image
	FROM pages});
is($read, '0 0 0', 'nothing is read when images are loaded');
is($server{$_}->safe_psql('archive', 'SELECT count(*) FROM scans'), $_ eq 'north' ? 3 : 1, "$_ has its images") for qw(north south);

# What one server reads.
my ($here, $texts) = count('SELECT id, ocr(image) FROM (SELECT row_number() OVER (ORDER BY name) AS id, image FROM pages) AS p ORDER BY id');
is($here, '4 0 0', 'the front can read what it has');

# ---- the view ----

my ($all, $by_region, $aggregate) = $selects =~ /^(SELECT .*);/mg;
my ($partitionwise) = $selects =~ /^(SET .*;)/m;
my $plan = plan_of($all);
is(scalar(() = $plan =~ /Async Foreign Scan/g), 2, 'both nodes are asked at the same time');
unlike($plan, qr/image/, 'and for no image');
($read, my $out) = count("$all ORDER BY id");
is($read, '0 3 1', 'each node reads its pages');
is($out, $texts, 'and the texts are those that one server finds');

($read) = count($by_region);
is($read, '0 3 0', 'a condition on the partition leaves the other node alone');
like(plan_of($by_region), qr/Remote SQL: SELECT id FROM public\.readings WHERE .*content ~/, 'a condition on the text is sent');
like($server{front}->safe_psql('archive', "$partitionwise EXPLAIN (VERBOSE, COSTS OFF) $aggregate"),
	qr/Remote SQL: SELECT region, count\(\*\), sum\(length\(content\)\) FROM public\.readings/, 'so is an aggregate');
($read, $out) = count("$partitionwise $aggregate");
is($read, '0 3 1', 'which is made on the nodes');
like($out, qr/^north\|3\|\d+$/m, 'of the texts there');

# ---- the table ----

is(scalar(() = plan_of($update) =~ /Remote SQL: UPDATE public\.scans SET content = public\.ocr\(image/g), 2, 'an update is sent');
($read) = count($update);
is($read, '0 3 1', 'and read by the nodes');
($read, $out) = count('SELECT id, content FROM scans ORDER BY id');
is($read, '0 0 0', 'stored texts are read no more');
is($out, $texts, 'and are the same');

# ---- a job on each node ----

$server{front}->safe_psql('archive', 'UPDATE scans SET content = NULL');
for my $name (qw(north south))
{
	my $node = $server{$name};
	my $before = pages_read($node, 'archive');
	$node->safe_psql('archive', $convert);
	is(pages_read($node, 'archive') - $before, $name eq 'north' ? 3 : 1, "ocr_convert() on $name reads what is there");
}
is($server{front}->safe_psql('archive', 'SELECT id, content FROM scans ORDER BY id'), $texts, 'and the front sees the same texts');

# ---- what travels, as the documentation has it ----

my ($table) = read_file('doc/scale-out.md') =~ /^## What travels\n(.*?)^## /ms;
my %travels = $table =~ /^\| (`.*?) \| (.*?) \|$/mg;
for my $case (
	[ 'SELECT content FROM readings', q{SELECT content FROM readings WHERE content <> ''}, 'on the nodes' ],
	[ 'WHERE vision_token_count', 'SELECT id FROM scans WHERE vision_token_count(image) > 300', 'on the nodes' ],
	[ 'WHERE ocr(image) IS NOT NULL', 'SELECT id FROM scans WHERE ocr(image) IS NOT NULL', 'on the nodes' ],
	[ 'sum(vision_token_count(image))', "$partitionwise SELECT region, sum(vision_token_count(image)) FROM scans GROUP BY region", 'on the nodes' ],
	[ 'SELECT ocr(image) FROM scans', 'SELECT ocr(image) FROM scans', '**on the front**' ],
	[ 'WHERE ocr(image) ~', q{SELECT id FROM scans WHERE ocr(image) ~ 'invoice'}, '**on the front**' ],
	[ 'ORDER BY ocr(image)', q{SELECT id FROM scans ORDER BY ocr(image)}, '**on both**' ])
{
	my ($documented, $query, $where) = @$case;
	my ($line) = grep { index($_, $documented) >= 0 } keys %travels;
	is($travels{ $line // '' }, $where, "documented: $documented");
	my ($settings, $select) = $query =~ /^(SET .*?;)?\s*(.*)$/s;
	my $plan = $server{front}->safe_psql('archive', ($settings // '') . " EXPLAIN (VERBOSE, COSTS OFF) $select");
	my $travels = $plan =~ /Remote SQL: SELECT [^()]*\bimage\b/;
	($read) = count($query);
	my ($front, $nodes) = $read =~ /^(\d+) (.*)/;
	is(!!$travels, $where ne 'on the nodes', "images travel: $documented") or diag($plan);
	is($front > 0, $where ne 'on the nodes', "the front reads: $documented") or diag($read);
	is($nodes ne '0 0', $where eq '**on both**', "the nodes read: $documented") or diag($read) if $where ne 'on the nodes';
}

# ---- at the same time, until it is cancelled ----

$server{$_}->safe_psql('archive', q{
	ALTER SYSTEM SET deepseek_ocr.max_tokens = 0;
	SELECT pg_reload_conf();
	INSERT INTO scans SELECT -id - 10 * n, region, image FROM scans, generate_series(1, 20) AS n}) for qw(north south);
my $session = $server{front}->background_psql('archive', on_error_stop => 0);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_until(qr/reading/, "\\echo reading\n$all;\n\\echo over\n");

# How many nodes are at work now.
sub busy
{
	return scalar(grep {
		$_->safe_psql('archive', q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'postgres_fdw' AND state = 'active'})
	} @server{qw(north south)});
}

my $busy = 0;
for (1 .. 100)
{
	last if ($busy = busy()) == 2;
	sleep 0.02;
}
is($busy, 2, 'both nodes read at once');
$server{front}->safe_psql('archive', "SELECT pg_cancel_backend($pid)");
$session->query_until(qr/over/, '');
like($session->{stderr}, qr/canceling statement due to user request/, 'a query on the front is cancelled');
for (1 .. 50)
{
	last if ($busy = busy()) == 0;
	sleep 0.02;
}
is($busy, 0, 'and so are its parts on the nodes');
$session->quit;

$_->stop for values %server;
done_testing();
