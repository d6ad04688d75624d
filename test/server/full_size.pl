# Measurements on a checkpoint of the released size, whose folder is named by
# DEEPSEEK_OCR_FULL_MODEL: cancellation, the first call of a backend, and what
# four backends hold in memory. Takes some minutes and 7 GB of page cache.
use strict;
use warnings;

use lib 'server';
use OcrTest;
use List::Util qw(max sum);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $model = $ENV{DEEPSEEK_OCR_FULL_MODEL};
plan skip_all => 'DEEPSEEK_OCR_FULL_MODEL is not set' unless $model;

use constant { LATENCY_MS => 100, FIRST_CALL_MS => 250, PRIVATE_MB => 600, BACKENDS => 4 };

my $node = start_cluster('full_size', "deepseek_ocr.model = '$model'");
my $page = "FROM pages, ocr_detail(image, 'base') AS d WHERE name = 'letter'";

# Begin with nothing of it in the page cache: what comes in by ocr_load() lies in large pages.
system 'dd', "if=$_", 'iflag=nocache', 'count=0', 'status=none' for glob "$model/*.safetensors";
my ($bytes, $load_ms) = split /\|/, $node->safe_psql('postgres', 'SELECT bytes, load_ms FROM ocr_load()');
diag(sprintf 'weights: %.2f GB, read in %.1f s', $bytes / 1e9, $load_ms / 1000);

# ---- time of a page ----

my ($first, $second) = split /\n/, $node->safe_psql('postgres', "SET deepseek_ocr.max_tokens = 60;\n"
	  . "SELECT tokens, image_ms, encode_ms, prefill_ms, decode_ms $page;\n" x 2);
my ($tokens, $image, $encode, $prefill, $decode) = split /\|/, $second;
my $whole = $image + $encode + $prefill + $decode;
diag(sprintf 'one page, base mode: image %.0f ms, encode %.0f ms, prefill %.0f ms, %d tokens at %.1f tokens/s',
	$image, $encode, $prefill, $tokens, 1000 * $tokens / $decode);

# ---- cancellation at 50 random moments ----

srand 1;
my @timeouts = map { 1 + int(rand(0.95 * $whole)) } 1 .. 50;
my $read = "SELECT d.tokens $page;";
my $script = join '', map { "SET statement_timeout = $_;\n$read\n" } @timeouts;
my ($ret, $out, $err) = $node->psql('postgres',
	"SET deepseek_ocr.max_tokens = 60;\n$read\n\\timing on\n$script\nRESET statement_timeout;\n\\timing off\n$read",
	on_error_stop => 0);
my @times = $out =~ /^Time: ([\d.]+) ms/mg;
my @late = sort { $a <=> $b } grep { $_ > 0 } map { $times[ 2 * $_ + 1 ] - $timeouts[$_] } 0 .. $#timeouts;
my $canceled = () = $err =~ /canceling statement due to statement timeout/g;
diag(sprintf '%d of 50 pages cancelled; answer after, ms: median %.1f, 90 %% %.1f, largest %.1f',
	$canceled, median(@late), $late[ 0.9 * @late ], $late[-1]);
cmp_ok($canceled, '>=', 30, 'statements time out');
cmp_ok($late[-1], '<=', LATENCY_MS, 'each answers in time');
like($out, qr/^$tokens\z/m, 'and the backend reads as before');

# ---- the first call of a backend ----

my @overhead;
for (1 .. 7)
{
	my $once = "SELECT length(ocr(image, 'tiny')) FROM pages WHERE name = 'strip';\n";
	my $timed = $node->safe_psql('postgres', "SET deepseek_ocr.max_tokens = 2;\n\\timing on\n" . $once x 4);
	my ($first, @later) = $timed =~ /^Time: ([\d.]+) ms/mg;
	push @overhead, $first - median(@later);
}
diag('first call above later ones, ms: ' . join(' ', map { sprintf '%.0f', $_ } @overhead));
cmp_ok(median(@overhead), '<=', FIRST_CALL_MS, 'a backend\'s first call is quick on a warm page cache');

# ---- four backends at once ----

my @sessions = map { $node->background_psql('postgres') } 1 .. BACKENDS;
my @pids = map { $_->query_safe('SELECT pg_backend_pid()') } @sessions;
$_->query_until(qr/reading/, "SET deepseek_ocr.max_tokens = 40;\n\\echo reading\n$read\n\\echo over\n") for @sessions;

# kB of a kind, from the kernel's summary of a process.
sub memory_kb
{
	my ($pid, $kind) = @_;
	my ($kb) = read_file("/proc/$pid/smaps_rollup") =~ /^$kind:\s+(\d+) kB/m;
	return $kb;
}

my (%private, $pss, $rss);
while (grep { $_->{stdout} !~ /over/ } @sessions)
{
	my @now = map { memory_kb($_, 'Pss') } @pids;
	($pss, $rss) = (sum(@now), sum(map { memory_kb($_, 'Rss') } @pids)) if !defined $pss || sum(@now) > $pss;
	for my $pid (@pids)
	{
		my $kb = private_kb($pid);
		$private{$pid} = $kb if $kb > ($private{$pid} // 0);
	}
	$_->{run}->pump_nb for @sessions;
	sleep 0.2;
}
diag(sprintf '%d backends: PSS %.2f GB in total (RSS %.2f GB), private at most %.0f MB each',
	BACKENDS, $pss / 1e6, $rss / 1e6, max(values %private) / 1e3);
cmp_ok($pss * 1024, '<', $bytes + BACKENDS * PRIVATE_MB * 1e6, 'the weights are in memory once');
cmp_ok(max(values %private) / 1e3, '<=', PRIVATE_MB, 'a backend has little of its own');
$_->quit for @sessions;

$node->stop;
done_testing();
