# Cancellation: quick at any moment, and nothing is left behind.
use strict;
use warnings;

use lib 'server';
use OcrTest;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

# An answer takes some ten milliseconds; the rest is for a busy machine.
use constant { LATENCY_MS => 250, MEDIAN_MS => 60, GROWTH_KB => 4096 };

my $node = start_cluster('cancel', "deepseek_ocr.threads = 2\nrestart_after_crash = on");
my $read = "SELECT length(ocr(image, 'base')) FROM pages WHERE name = 'receipt';";
my $length = $node->safe_psql('postgres', $read);

# ---- statement_timeout, at random moments of a page ----

# The quickest of three, so that a slow moment does not make all timeouts too long.
my ($whole) = sort { $a <=> $b } $node->safe_psql('postgres', "$read\n\\timing on\n" . "$read\n" x 3) =~ /^Time: ([\d.]+) ms/mg;

srand 1;
my @timeouts = map { 1 + int(rand(0.9 * $whole)) } 1 .. 30;
my $canceled;

# Milliseconds after each timeout until its statement ends.
sub late
{
	my $script = join '', map { "SET statement_timeout = $_;\n$read\n" } @_;
	$script .= "RESET statement_timeout;\n" x 2; # the first is under a timeout itself
	my ($ret, $out, $err) = $node->psql('postgres', "$read\n\\timing on\n$script\\timing off\n$read", on_error_stop => 0);
	like($out, qr/^$length\z/m, 'the backend reads as before');
	my $count = () = $err =~ /canceling statement due to statement timeout/g;
	$canceled //= $count;
	my @times = $out =~ /^Time: ([\d.]+) ms/mg;
	return map { $times[ 2 * $_ + 1 ] - $_[$_] } 0 .. $#_;
}
my @late = grep { $_ > 0 } least_of(LATENCY_MS, \&late, @timeouts);
cmp_ok($canceled, '>=', 15, "$canceled of 30 statements time out");
note(sprintf 'answers after the timeout, ms: median %.1f, largest %.1f', median(@late), (sort { $b <=> $a } @late)[0]);
cmp_ok(median(@late), '<', MEDIAN_MS, 'they end soon');
is(scalar(grep { $_ > LATENCY_MS } @late), 0, 'all of them');

# ---- pg_cancel_backend and pg_terminate_backend ----

my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->set_query_timer_restart;
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe($read);

# Ask for a page, wait, run the command in another session; milliseconds until psql prints again.
sub interrupt
{
	my ($wait, $command) = @_;
	my $seen = $session->query_until(qr/reading/, "\\echo reading\n$read\n\\echo over\n");
	sleep $wait;
	$node->safe_psql('postgres', $command);
	my $begin = time;
	$session->query_until(qr/over/, '') if $seen !~ /over/; # on a busy machine the page may have ended before that was seen
	return 1000 * (time - $begin);
}

for my $i (1 .. 5)
{
	my ($ms) = least_of(LATENCY_MS, sub { interrupt(0.15 * $_[0] * $whole / 1000, "SELECT pg_cancel_backend($pid)") }, $i);
	cmp_ok($ms, '<', LATENCY_MS, "cancelled: $i");
}
like($session->{stderr}, qr/canceling statement due to user request/, 'pg_cancel_backend works');
$session->{stderr} = '';

# ---- what 200 failures leave behind ----

sub contexts
{
	return $session->query_safe(
		"SELECT name, count(*) FROM pg_backend_memory_contexts WHERE name LIKE 'deepseek_ocr%' GROUP BY 1 ORDER BY 1");
}

# 100 cancelled calls, and 100 with an image that is cut short.
sub fail_often
{
	my $tiny = "SELECT ocr(image, 'tiny') FROM pages WHERE name = 'strip';";
	$session->query(join "\n", map { "SET statement_timeout = $_; $tiny" } 1 .. 100);
	$session->{stderr} = '';
	$session->query_safe('RESET statement_timeout');
	$session->query_safe("SELECT count(t.error) FROM pages, generate_series(1, 25) AS i,"
		. " ocr_try(substr(image, 1, 20 * i + length(image) / 3)) AS t;");
}

my $files = sub { scalar(my @open = glob "/proc/$pid/fd/*") };
my $tasks = sub { scalar(my @running = glob "/proc/$pid/task/*") };
fail_often();
my @before = ($files->(), $tasks->());
my ($growth) = least_of(GROWTH_KB, sub { my $before = private_kb($pid); fail_often(); private_kb($pid) - $before }, 1);
note("200 more failed calls add $growth kB of private memory");
cmp_ok($growth, '<', GROWTH_KB, 'failed and cancelled calls leave no memory behind');
is($files->(), $before[0], 'nor open files');
is($tasks->(), $before[1], 'nor threads');
is(contexts(), 'deepseek_ocr model|1', 'of the memory contexts only the model\'s is left');
is($session->query_safe($read), $length, 'and the backend reads as before');

# ---- while it runs, the page's memory is there to be seen, and the weights are shared ----

my ($maps) = grep { /model\.safetensors/ } split /\n/, read_file("/proc/$pid/maps");
like($maps, qr/ r--s /, 'the weights are mapped read-only and shared');
my ($mapping) = read_file("/proc/$pid/smaps") =~ /model\.safetensors\n(.*?VmFlags)/s;
like($mapping, qr/Private_Dirty:\s+0 kB/, 'and no page of them is private');

# ---- the end of a backend ----

cmp_ok(interrupt(0.3 * $whole / 1000, "SELECT pg_terminate_backend($pid)"), '<', LATENCY_MS, 'terminated');
$session->{run}->finish;

my $victim = $node->background_psql('postgres', on_error_stop => 0);
$pid = $victim->query_safe('SELECT pg_backend_pid()');
$victim->query_safe($read);
$victim->query_until(qr/reading/, "\\echo reading\n$read\n");
sleep 0.3 * $whole / 1000;
kill_backend($node, $pid);
is($node->safe_psql('postgres', $read), $length, 'a killed backend takes no model with it');
$victim->{run}->finish;

$node->stop;
done_testing();
