# Documents of several pages: each as if it were alone, within limits, and nothing is left behind.
use strict;
use warnings;

use lib 'server';
use Documents;
use OcrTest;
use Cwd qw(abs_path);
use File::Copy;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

# Of an answer to a cancellation; some ten milliseconds, and the rest for a busy machine.
use constant LATENCY_MS => 250;

my $node = start_cluster('documents', 'restart_after_crash = on');
my $folder = abs_path(PostgreSQL::Test::Utils::tempdir);
chmod 0755, $folder;

my %page = map { $_->[0] => pack 'H*', $_->[1] }
  map { [ split /\|/ ] } split /\n/, $node->safe_psql('postgres', q{SELECT name, encode(image, 'hex') FROM pages});
my %text = map { $_ => page_text($_) } keys %page;

sub add_document
{
	my ($name, $bytes) = @_;
	$node->safe_psql('postgres', "CREATE TABLE IF NOT EXISTS documents (id int GENERATED ALWAYS AS IDENTITY, name text, document bytea);"
		  . "INSERT INTO documents (name, document) VALUES ('$name', '\\x" . unpack('H*', $bytes) . "')");
}

# ---- page by page as the images alone ----

my @names = qw(strip scan strip);
my $tiff = tiff_of(@page{@names});
my $pdf = pdf_of(200, @page{@names});
add_document(tiff => $tiff);
add_document(pdf => $pdf);

my ($recipe) = documented_sql('README.md', '7. Documents of several pages');
is($node->safe_psql('postgres', $recipe), '', 'the recipe works');

for my $name (qw(tiff pdf))
{
	is($node->safe_psql('postgres', qq{
			SELECT page, text, error FROM documents JOIN document_pages USING (id) WHERE name = '$name' ORDER BY page}),
		join("\n", map { ($_ + 1) . "|$text{$names[$_]}|" } 0 .. 2), "$name: each page is read");
	my ($ret, $out, $err) = $node->psql('postgres', "SELECT ocr(document) FROM documents WHERE name = '$name'");
	is($out, $text{strip}, "$name: ocr() reads the first page");
	like($err, qr/NOTICE:  the document has more than one page; the first is read\nHINT:  Use ocr_pages/, 'and says so');
	($ret, $out, $err) = $node->psql('postgres',
		"SELECT vision_token_count(document, 'gundam') FROM documents WHERE name = '$name'");
	is($out, $node->safe_psql('postgres', "SELECT vision_token_count(image, 'gundam') FROM pages WHERE name = 'strip'"),
		"$name: tokens of the first page");
	like($err, qr/NOTICE/, 'and a notice');
}

is($node->safe_psql('postgres', "SET deepseek_ocr.pdf_resolution = 100; SELECT vision_token_count(document, 'gundam') FROM documents WHERE name = 'pdf'"),
	$node->safe_psql('postgres', "SELECT vision_token_count(image, 'base') FROM pages WHERE name = 'strip'"),
	'drawn with half as many dots the page is too small for tiles');

# The pixels are the same to the last bit, so that the decoder gets the same numbers.
is($node->safe_psql('postgres', q{
		SELECT bool_and(vision_tokens(document, 'tiny') = vision_tokens(image, 'tiny'))
		FROM documents, pages WHERE pages.name = 'strip' AND documents.name IN ('tiff', 'pdf')}),
	't', 'the same vision tokens');

sub numbers
{
	my ($name, $arguments, $settings) = @_;
	return $node->safe_psql('postgres', ($settings // '') . qq{
		SELECT string_agg(page::text || coalesce(sqlstate, ''), ' ' ORDER BY page)
		FROM documents, ocr_pages(document, 'tiny', $arguments) WHERE name = '$name'});
}

for my $name (qw(tiff pdf))
{
	is(numbers($name, 'first => 2'), '2 3', "$name: from a page on");
	is(numbers($name, 'first => 2, last => 2'), '2', "$name: one page");
	is(numbers($name, 'last => 1000'), '1 2 3', "$name: more than there are");
	is(numbers($name, 'first => 4'), '', "$name: behind the end");
	is(numbers($name, 'first => 3, last => 2'), '', "$name: no pages");
}
is($node->safe_psql('postgres', "SELECT page FROM pages, ocr_pages(image, 'tiny') WHERE name = 'strip'"),
	1, 'an image is a document of one page');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ocr_pages(NULL)'), 0, 'no document has no pages');
like(($node->psql('postgres', "\\set VERBOSITY sqlstate\nSELECT * FROM ocr_pages('', first => 0)"))[2],
	qr/22023/, 'pages begin with 1');

# No call reads more pages than are allowed.
my $two = 'SET deepseek_ocr.max_document_pages = 2;';
for my $name (qw(tiff pdf))
{
	is(numbers($name, 'first => 1', $two), '1 2 3OC005', "$name: more pages than are allowed");
	is(numbers($name, 'first => 2', $two), '2 3', "$name: as many as are allowed");
	is(numbers($name, 'last => 2', $two), '1 2', "$name: as many as are wanted");
	is(numbers($name, 'first => 2147483647', $two), '', "$name: from the last number on");
	like($node->safe_psql('postgres', "$two SELECT error FROM documents, ocr_pages(document, 'tiny') WHERE name = '$name' AND page = 3"),
		qr/^page 3 of the document and those behind it are not read: 2 are allowed$/, "$name: and what is said of more");
}

# ---- bad pages, bad documents ----

my $broken = $tiff;
my $second = index $broken, $page{scan};
substr($broken, $second + 2000, 3000) = "\xFF" x 3000;
add_document(broken => $broken);
is(numbers('broken', 'first => 1'), '1 2OC004 3', 'a damaged page hides no other');

add_document(cut => substr $pdf, 0, length($pdf) / 2);
add_document(empty => "%PDF-1.4\n");
add_document(noise => "%PDF-1.4\n" . join '', map { chr(($_ * $_ * 37) % 251) } 1 .. 20000);
(my $bomb = $pdf) =~ s/MediaBox \[0 0 [\d.]+ [\d.]+/MediaBox [0 0 90000 90000/;
add_document(bomb => $bomb);
like(numbers('cut', 'first => 1'), qr/^1(OC004)?/, 'half a PDF has what is left of it');
is(numbers($_, 'first => 1'), '1OC004', "$_: an error")  for qw(empty noise);
is(numbers('bomb', 'first => 1'), '1OC005 2 3', 'a huge page is an error, and hides no other');
like(($node->psql('postgres', "SELECT ocr(document) FROM documents WHERE name = 'empty'"))[2],
	qr/ERROR:  the PDF could not be drawn \(exit status 1\)\nDETAIL:  The program says "\w.*"\.$/m, 'with the words of the program');
like($node->safe_psql('postgres', "SELECT error FROM documents, ocr_pages(document) WHERE name = 'empty'"),
	qr/^the PDF could not be drawn \(exit status 1\): \w/, 'which are in the row, too');

# ---- the program ----

# Stands in for pdftoppm: fake.pl MODE FIRST LAST
my $fake = "$folder/fake.pl";
write_file($fake, <<'PERL');
#!/usr/bin/perl
use strict;
use warnings;
my ($mode, $first, $last) = @ARGV;
my $folder = $0 =~ s{/[^/]*$}{}r;
$| = 1;
sub page { print "P5\n300 200\n255\n", chr(255) x 60000 }
if ($mode eq 'report')
{
	open my $report, '>', "$folder/report" or die;
	opendir my $open, '/proc/self/fd';
	my $own = fileno $report;
	print $report 'files ', join(' ', grep { /\d/ && $_ != $own && readlink "/proc/self/fd/$_" }
		  grep { (readlink "/proc/self/fd/$_") !~ m{^/proc/} } sort readdir $open), "\n";
	print $report 'environment ', join(' ', sort keys %ENV), "\n";
	print $report 'group ', getpgrp == $$ ? 'own' : 'other', "\n";
	print $report 'input ', do { local $/; my $all = <STDIN>; length $all }, "\n";
	open my $status, '<', '/proc/self/status' or die;
	print $report grep { /^(SigBlk|SigIgn|NoNewPrivs)/ } <$status>;
	open my $limits, '<', '/proc/self/limits' or die;
	print $report grep { /^Max (cpu time|file size|core|address)/ } <$limits>;
	print $report 'folder ', readlink '/proc/self/cwd', "\n";
	close $report;
	chmod 0644, "$folder/report";
	page();
}
elsif ($mode eq 'alone') { sleep 1000 }
elsif ($mode eq 'sleep') { fork; sleep 1000 }
elsif ($mode eq 'slow') { for ($first .. 4) { sleep 1000 if $_ == 2; page() } }
elsif ($mode eq 'crash') { for ($first .. 4) { kill SEGV => $$ if $_ == 2; page() } }
elsif ($mode eq 'always') { exit 3 if $first > 20; kill KILL => $$ }
elsif ($mode eq 'fail') { print STDERR "begun\nno ink\n"; exit 7 }
elsif ($mode eq 'huge') { print "P6\n20000 20000\n255\n", "\0" x 1000 while 1 }
elsif ($mode eq 'junk') { print 'y' x 1000 while 1 }
elsif ($mode eq 'cut') { print "P5\n300 200\n255\n", 'x' x 1000 }
elsif ($mode eq 'memory') { my @all; push @all, 'x' x 1e8 for 1 .. 100; page() }
elsif ($mode =~ /^(\w+)-at-([\d,]+)$/) # a document of five pages, of which some are bad
{
	my ($how, %bad) = ($1, map { $_ => 1 } split /,/, $2);
	exit 99 if $first > 5;
	for ($first .. 5)
	{
		if ($bad{$_}) { $how eq 'crash' ? kill SEGV => $$ : exit $how }
		page();
	}
}
elsif ($mode eq 'worn') { page() if $first == 1; print STDERR "worn out\n"; exit 1 }
elsif ($mode eq 'begin') { page(); print "P5\n300 200\n255\n", 'x' x 1000; sleep 1000 }
elsif ($mode eq 'talk') { print STDERR 'words ' x 100, "\n" for 1 .. 10000; page() for 1 .. 2 }
PERL
chmod 0755, $fake;

# The same under a shell, which makes an exit status of a crash.
my $wrapper = "$folder/wrapper.sh";
write_file($wrapper, "#!/bin/sh\n$fake \"\$@\"\nexit \$?\n");
chmod 0755, $wrapper;

# Processes of the fake program that are left, and temporary files.
sub leftovers
{
	my @processes = processes('cmdline', qr/\Q$fake\E/);
	my @files = glob $node->data_dir . '/base/pgsql_tmp/*';
	return "@processes @files";
}

# A leftover may need a moment to vanish from the table of processes.
sub nothing_left
{
	my ($what) = @_;
	my $begin = time;
	sleep 0.05 while leftovers() ne ' ' && time - $begin < 5;
	is(leftovers(), ' ', "$what: nothing is left behind");
}

sub fake_pages
{
	my ($mode, $settings) = @_;
	my ($ret, $out, $err) = $node->psql('postgres', "SET deepseek_ocr.pdf_command = '$fake $mode %f %l';"
		  . ($settings // '')
		  . "SELECT page, sqlstate, error FROM ocr_pages('%PDF-', 'tiny')");
	nothing_left($mode);
	return $out || $err;
}

is(fake_pages('report'), '1||', 'a program gives a page');
my $report = read_file("$folder/report");
like($report, qr/^files 0 1 2$/m, 'it has no other files open');
like($report, qr/^environment LC_ALL PATH$/m, 'its environment is small');
like($report, qr/^group own$/m, 'it has a process group of its own');
like($report, qr/^input 5$/m, 'it gets the document');
like($report, qr/^SigBlk:\s0+$/m, 'no signal is blocked');
# Signal 8 by Perl itself; 32 and 33, the C library's own, a parent may have left ignored, and nobody can set them.
my $ignored = do { no warnings 'portable'; hex(($report =~ /^SigIgn:\s(\w+)$/m)[0]) };
is($ignored & ~(0x80 | 3 << 31), 0x1000000, 'and only that of a file grown too large is ignored');
like($report, qr/^NoNewPrivs:\s1$/m, 'it cannot gain rights');
like($report, qr/^Max file size\s+65536 /m, 'it can write no large files');
like($report, qr/^Max core file size\s+0 /m, 'and no core');
like($report, qr/^Max address space\s+18737\d{5} /m, 'its memory is limited');
like($report, qr{^folder /$}m, 'it is not in the data directory');

is(fake_pages('slow', 'SET deepseek_ocr.pdf_timeout = 2000;'), <<OUT =~ s/\n\z//r, 'a page that takes too long');
1||
2|OC005|drawing page 2 of the PDF took longer than the allowed 2000 ms
3||
4||
OUT
is(fake_pages('crash'), <<OUT =~ s/\n\z//r, 'a page at which the program crashes');
1||
2|OC004|the program that drew page 2 of the PDF was stopped by signal 11
3||
4||
OUT
like(fake_pages('always'), qr/^10\|OC004\|.* signal 9; after 10 such pages in a row the rest is not tried\z/m,
	'a program that always crashes');

# The numbers of the pages, each with the SQLSTATE of its error.
sub fake_numbers
{
	return join ' ', fake_pages(@_) =~ s/^(\d+)\|(\w*)\|.*/$1$2/mgr =~ /\S+/g;
}

my $wrapped = sub { "SET deepseek_ocr.pdf_command = '$wrapper $_[0] %f %l';" };
is(fake_numbers('crash-at-3,4'), '1 2 3OC004 4OC004 5', 'two pages at which the program crashes');
is(fake_numbers('wrapped', $wrapped->('crash-at-3,4')), '1 2 3OC004 4OC004 5', 'and under a wrapper');
like(fake_pages('wrapped', $wrapped->('crash-at-3,4')),
	qr/^4\|OC004\|page 4 of the PDF could not be drawn \(exit status 139\)/m, 'which says so by its exit status');
is(fake_numbers('wrapped', $wrapped->('crash-at-1,2')), '1OC004 2OC004 3 4 5', 'the first pages');
is(fake_numbers('wrapped', $wrapped->('crash-at-5')), '1 2 3 4 5OC004', 'no page is made up behind the last');
is(fake_numbers('1-at-3,4,5'), '1 2 3OC004 4OC004 5OC004', 'a program that gives up at some pages');
is(fake_numbers('1-at-1'), '1OC004 2 3 4 5', 'at the first page alone');
is(fake_numbers('127-at-1,2,3,4,5'), '1OC004', 'at all pages');
is(fake_numbers('worn'), join(' ', 1, map { "${_}OC004" } 2 .. 11), 'a program that works once');
like(fake_pages('worn'), qr/^11\|OC004\|page 11 of the PDF .* \(exit status 1\); after 10 such pages in a row the rest is not tried: worn out\z/m,
	'is not asked for ever');
is(fake_pages('fail'), '1|OC004|the PDF could not be drawn (exit status 7): no ink', 'a program that says why it fails');
like(fake_pages('huge'), qr/^1\|OC005\|the image is 20000 x 20000 pixels/, 'pictures that are too large');
like(fake_pages('junk'), qr/^1\|OC004\|the PNM is damaged/, 'no pictures');
like(fake_pages('cut'), qr/^1\|OC004\|the drawing of page 1 of the PDF ends too early/, 'half a picture');
like(fake_pages('memory'), qr/^1\|OC004\|/, 'too much memory');
is(fake_pages('talk'), "1||\n2||", 'too many complaints do no harm');
like(fake_pages('sleep', 'SET deepseek_ocr.pdf_timeout = 200;'), qr/^1\|OC005\|/, 'no answer');

# Whether a function that reads one page hears of a second one, and how long it takes. pdf_timeout is a minute.
sub look_behind
{
	my ($mode) = @_;
	my ($ret, $out, $err) = $node->psql('postgres', "SET deepseek_ocr.pdf_command = '$fake $mode %f %l';\n"
		  . "\\timing on\nSELECT vision_token_count('%PDF-', 'tiny');");
	nothing_left("behind the first page of $mode");
	like($out, qr/^\d+$/m, "$mode: the first page is read");
	cmp_ok(($out =~ /^Time: ([\d.]+) ms/m)[0], '<', 30000, "$mode: soon");
	return $err =~ /more than one page/ ? 1 : 0;
}

is(look_behind('report'), 0, 'there is none');
is(look_behind('crash-at-4'), 1, 'there is one');
is(look_behind('begin'), 1, 'there is one of which the beginning is enough');
is(look_behind('slow'), 1, 'there may be one that takes too long');
is(look_behind('1-at-2'), 1, 'one that cannot be drawn is one, too');

like(($node->psql('postgres', "SET deepseek_ocr.pdf_command = ''; SELECT ocr('%PDF-')"))[2],
	qr/ERROR:  PDF documents are not read here/, 'PDF documents can be refused');
like(($node->psql('postgres', "\\set VERBOSITY verbose\nSET deepseek_ocr.pdf_command = 'no-such-program'; SELECT ocr('%PDF-')"))[2],
	qr/OC003: .*"no-such-program", is not there: install it \(pdftoppm is part of poppler-utils\)/, 'no program');
is($node->safe_psql('postgres', "SET deepseek_ocr.pdf_command = 'no-such-program'; SELECT string_agg(coalesce(sqlstate, 'read'), ' ' ORDER BY name)
		FROM (VALUES (1, '%PDF-'::bytea), (2, ${\bytea($page{strip})})) AS images (name, image), ocr_try(image)"), 'OC003 read', 'images are read all the same');
copy($fake, $node->data_dir . '/fake.pl');
chmod 0755, $node->data_dir . '/fake.pl';
like(($node->psql('postgres', "SET deepseek_ocr.pdf_command = './fake.pl fail'; SELECT ocr('%PDF-')"))[2],
	qr/"fake.pl", is not there/, 'a path is an absolute one, not one in the data directory');

# ---- cancellation, and the end of a backend ----

my $wait = "SET deepseek_ocr.pdf_command = '$fake sleep %f %l';";
my $read = "SELECT ocr('%PDF-');";
my ($late) = least_of(LATENCY_MS, sub {
	my (undef, $out, $err) = $node->psql('postgres', "$wait SET statement_timeout = $_[0];\n\\timing on\n$read", on_error_stop => 0);
	like($err, qr/statement timeout/, 'a timeout');
	return ($out =~ /^Time: ([\d.]+) ms/m)[0] - $_[0];
}, 300);
cmp_ok($late, '<', LATENCY_MS, 'comes in time');
nothing_left('a timeout');

my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->set_query_timer_restart;
my $pid = $session->query_safe('SELECT pg_backend_pid()');
$session->query_safe($wait);

# Start a statement, wait until the program runs, and end it from another session.
sub interrupt
{
	my ($statement, $command) = @_;
	$session->query_until(qr/reading/, "\\echo reading\n$statement\n\\echo over\n");
	sleep 0.05 until leftovers() =~ m{/proc/.*pgsql_tmp}s;
	$node->safe_psql('postgres', $command);
	my $begin = time;
	$session->query_until(qr/over/, '');
	return 1000 * (time - $begin);
}

my $files = sub { scalar(my @open = glob "/proc/$pid/fd/*") };
interrupt($read, "SELECT pg_cancel_backend($pid)");
my $before = $files->();

# The last one catches the error: the program and its files are gone before the transaction is over.
for my $statement ($read, "BEGIN; $read", "ROLLBACK; SELECT * FROM ocr_pages('%PDF-');", <<'SQL')
DO $$ BEGIN PERFORM ocr('%PDF-');
EXCEPTION WHEN query_canceled THEN ASSERT (SELECT count(*) = 0 FROM pg_ls_tmpdir()), 'temporary files are left'; END $$;
SQL
{
	cmp_ok(interrupt($statement, "SELECT pg_cancel_backend($pid)"), '<', LATENCY_MS, "cancelled: $statement");
	nothing_left($statement);
}
is($files->(), $before, 'no file is left open');
is(join(' ', children($pid)), '', 'and no process to be waited for');
unlike($session->{stderr}, qr/temporary files are left|WARNING/, 'and no complaint is heard');

cmp_ok(interrupt($read, "SELECT pg_terminate_backend($pid)"), '<', LATENCY_MS, 'terminated');
nothing_left('the end of a backend');
$session->{run}->finish;

# Nobody is left to kill a process group: the kernel ends the program, which here has no children.
my $victim = $node->background_psql('postgres', on_error_stop => 0);
$pid = $victim->query_safe('SELECT pg_backend_pid()');
$victim->query_until(qr/reading/, $wait =~ s/sleep/alone/r . "\n\\echo reading\n$read\n");
sleep 0.05 until leftovers() =~ m{/proc/.*pgsql_tmp}s;
kill_backend($node, $pid);
nothing_left('a killed backend');
$victim->{run}->finish;

# ---- parallel workers ----

is($node->safe_psql('postgres', q{
		CREATE TABLE many AS SELECT document FROM documents, generate_series(1, 3) WHERE name = 'pdf';
		ALTER TABLE many SET (parallel_workers = 2);
		SET max_parallel_workers_per_gather = 2;
		SELECT count(*), min(vision_token_count(document)), max(vision_token_count(document)) FROM many}),
	'3|400|400', 'documents in parallel workers');
nothing_left('parallel workers');

$node->stop;
done_testing();
