# CALL ocr_convert() where images are documents of several pages; who sees its progress.
use strict;
use warnings;

use lib 'server';
use Documents;
use OcrTest;
use Cwd qw(abs_path);
use Test::More;
use Time::HiRes qw(sleep);

my $node = start_cluster('convert_documents',
	"shared_preload_libraries = 'deepseek_ocr'\ndeepseek_ocr.model = '${\nano_folder()}'\ndeepseek_ocr.max_tokens = 12");

sub query
{
	my ($sql) = @_;
	return $node->safe_psql('postgres', $sql);
}

my %page = map { $_ => read_file("demo/pages/$_.png") } qw(letter receipt strip);
my $good = tiff_of(@page{qw(strip letter receipt)});
my $broken = $good;
substr($broken, length(tiff_of($page{strip})) + 2000, 500) = 'x' x 500;    # of the second page
my @documents = (
	bytea($good), bytea($broken), bytea(pdf_of(200, @page{qw(receipt strip)})),
	bytea($page{strip}), "'no image'", 'NULL', bytea(tiff_of(@page{qw(letter strip)})));
my $values = join ', ', map { '(' . ($_ + 1) . ", $documents[$_])" } 0 .. $#documents;
query(qq{
	CREATE TABLE documents (id integer PRIMARY KEY, document bytea, content text);
	INSERT INTO documents VALUES $values;
	CREATE TABLE truth AS SELECT id, p.* FROM documents, ocr_pages(document, 'tiny') AS p;
});
is(query(q{SELECT string_agg(id || '.' || page || coalesce(sqlstate, ''), ' ' ORDER BY id, page) FROM truth}),
	'1.1 1.2 1.3 2.1 2.2OC004 2.3 3.1 3.2 4.1 5.1OC002 7.1 7.2', 'documents of good pages and bad ones');
is(query('SELECT count(DISTINCT text) > 2 FROM truth'), 't', 'that differ');

# ---- a text for each document ----

my $convert = q{CALL ocr_convert('documents', 'document', 'content', mode => 'tiny', batch_size => 2)};
is(query($convert), '8|2', 'every page is read, though a batch holds fewer than a document has');
is(query(q{SELECT id FROM documents WHERE content IS DISTINCT FROM (
		SELECT string_agg(text, E'\f' ORDER BY page) FROM truth WHERE truth.id = documents.id HAVING count(*) = count(text))}),
	'', 'texts are those of the pages in their order; of a document that lacks one there is none');
my $failures = q{SELECT string_agg(concat_ws('.', key, page, sqlstate, attempts), ' ' ORDER BY key, page) FROM ocr_failures};
is(query($failures), '2.2.OC004.1 5.1.OC002.1', 'failures name the page');

query("UPDATE documents SET document = ${\bytea($good)} WHERE id = 2");
is(query($convert =~ s/\)$/, retry => true)/r), '3|1', 'a retry reads the whole document');
is(query('SELECT a.content = b.content FROM documents AS a, documents AS b WHERE a.id = 1 AND b.id = 2'), 't', 'and stores it');
is(query($failures), '5.1.OC002.2', 'what succeeds is forgotten');

# ---- a row for each page ----

query(qq{
	UPDATE documents SET document = ${\bytea($broken)} WHERE id = 2;
	TRUNCATE ocr_failures;
	CREATE TABLE texts (id integer REFERENCES documents, page integer, text text, PRIMARY KEY (id, page));
});
$convert = q{CALL ocr_convert('documents', 'document', 'text', target_table => 'texts', mode => 'tiny')};
my $retry = $convert =~ s/\)$/, retry => true)/r;
my $differences = 'SELECT id, page FROM (SELECT * FROM texts) AS t FULL JOIN (SELECT * FROM truth WHERE text IS NOT NULL) AS u '
  . 'USING (id, page) WHERE t.text IS DISTINCT FROM u.text';
is(query($convert), '10|2', 'every page is read');
is(query($differences), '', 'texts are those of the pages');
is(query($failures), '2.2.OC004.1 5.1.OC002.1', 'failures name the page');
is(query($convert), '0|0', 'and are not tried again');
is(query($retry), '0|2', 'unless asked to, and without the pages that are stored');
is(query($failures), '2.2.OC004.2 5.1.OC002.2', 'the attempt is counted');
query("UPDATE documents SET document = ${\bytea($good)} WHERE id = 2");
is(query($retry), '1|1', 'a page that can be read then is stored');
is(query("$differences ORDER BY 1, 2"), '2|2', 'with the others');
is(query($failures), '5.1.OC002.3', 'what succeeds is forgotten');

# ---- a page that cannot be stored ----

query(q{
	TRUNCATE texts, ocr_failures;
	DELETE FROM documents WHERE id = 5;
	ALTER TABLE texts ADD CONSTRAINT no_strip CHECK (id <> 7 OR page <> 2);
});
is(query($convert), '10|1', 'a constraint');
is(query($failures), '7.2.23514.1', 'the failure names the page');
query('ALTER TABLE texts DROP CONSTRAINT no_strip');
is(query($retry), '1|0', 'which is stored when it can be');

# ---- a document that cannot be opened while it is tried again ----

query("SET deepseek_ocr.max_document_pages = 1; UPDATE documents SET content = NULL; DELETE FROM texts WHERE id = 3; TRUNCATE ocr_failures; $convert");
is(query($failures), '3.2.OC005.1', 'a PDF that lacks a page');
is(query("SET deepseek_ocr.pdf_command = ''; $retry"), '0|1', 'and cannot be read for the time being');
is(query($failures), '3.1.OC003.1', 'stays a failure');
is(query($retry), '1|0', 'until its pages are read');
is(query("$differences ORDER BY 1, 2"), '2|2', 'all of them');

# ---- a trigger that updates the document for each page ----

query(q{
	TRUNCATE texts, ocr_failures;
	ALTER TABLE documents ADD pages_done integer NOT NULL DEFAULT 0;
	CREATE FUNCTION count_page() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN UPDATE documents SET pages_done = pages_done + 1 WHERE id = NEW.id; RETURN NULL; END';
	CREATE TRIGGER count_page AFTER INSERT ON texts FOR EACH ROW EXECUTE FUNCTION count_page();
});
is(query($convert), '11|0', 'a trigger that updates the row of a page\'s document');
is(query('SELECT string_agg(pages_done::text, \' \' ORDER BY id) FROM documents'), '3 3 2 1 0 2', 'does so for each page');
query('DROP TRIGGER count_page ON texts; ALTER TABLE documents DROP pages_done');

# ---- a document with more pages than are allowed ----

my $two = 'SET deepseek_ocr.max_document_pages = 2;';
query(q{TRUNCATE texts, ocr_failures; UPDATE documents SET content = NULL});
is(query("$two $convert"), '9|2', 'of a long document some pages');
is(query($failures), '1.3.OC005.1 2.3.OC005.1', 'the failure names the first one that is too many');
is(query($retry), '2|0', 'which is read when it may be');
query('TRUNCATE ocr_failures');
my $whole = q{CALL ocr_convert('documents', 'document', 'content', mode => 'tiny', filter => 'id IN (1, 7)')};
is(query("$two $whole"), '2|1', 'and no text where there is one for all pages');
is(query($failures), '1.3.OC005.1', 'but a failure');
query('TRUNCATE ocr_failures');

# ---- a cancel while a PDF is drawn ----

# A program that draws nothing and never ends.
my $slow_program = abs_path($node->basedir) . '/slow.sh';
write_file($slow_program, "#!/bin/sh\nexec sleep 1000\n");
chmod 0755, $slow_program;
query(q{UPDATE documents SET content = NULL});
my $drawing = $node->background_psql('postgres', on_error_stop => 0);
my $drawer = $drawing->query_safe("SET deepseek_ocr.pdf_command = '$slow_program'; SELECT pg_backend_pid()");
$drawing->query_until(qr/begun/,
	"\\echo begun\nCALL ocr_convert('documents', 'document', 'content', mode => 'tiny', batch_size => 1);\n\\echo over\n");
$node->poll_query_until('postgres', 'SELECT count(*) = 2 FROM pg_ls_tmpdir()') or die 'no PDF is drawn';
sleep 0.05 until children($drawer) == 1;
query("SELECT pg_cancel_backend($drawer)");
$drawing->query_until(qr/over/, '');
my ($kept) = $drawing->{stderr} =~ /canceling statement.*CONTEXT:  ocr_convert: (\d+) pages stored and committed, 0 failed/s;
is($kept, query(q{SELECT count(*) FROM documents JOIN truth USING (id) WHERE content IS NOT NULL AND truth.id <> 2}) + 3 *
	query('SELECT count(*) FROM documents WHERE id = 2 AND content IS NOT NULL'), 'a job is cancelled while a PDF is drawn');
is(query('SELECT count(*) FROM pg_ls_tmpdir()'), '0', 'no temporary file is left');
is(scalar(children($drawer)), 0, 'nor a process');
$drawing->quit;
is(query(q{CALL ocr_convert('documents', 'document', 'content', mode => 'tiny')}), (11 - $kept) . '|0', 'the next call reads the rest');
query('TRUNCATE ocr_failures');

# ---- progress: who sees it, and how it ends ----

query(q{
	CREATE ROLE clerk LOGIN;
	CREATE ROLE other_clerk LOGIN;
	CREATE ROLE auditor LOGIN;
	GRANT pg_read_all_stats TO auditor;
	CREATE TABLE slow AS SELECT n AS id, document AS image FROM documents, generate_series(1, 40) AS n WHERE id = 4;
	ALTER TABLE slow ADD PRIMARY KEY (id), ADD content text, OWNER TO clerk;
	CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(600); RETURN NEW; END';
	CREATE TRIGGER wait BEFORE UPDATE ON slow FOR EACH ROW WHEN (OLD.id = 9) EXECUTE FUNCTION wait();
});
my $job = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $job->query_safe('SET ROLE clerk; SELECT pg_backend_pid()');
$job->query_until(qr/begun/, "\\echo begun\nCALL ocr_convert('slow', 'image', 'content', mode => 'tiny', batch_size => 4);\n");
$node->poll_query_until('postgres', 'SELECT pages = 12 AND rows_done = 12 FROM ocr_progress') or die 'no progress';
is(query(q{SELECT pid, usename, source, rows_done, rows_total, pages, failed, pages_per_minute > 0, time_left > '0', started < now() FROM ocr_progress}),
	"$pid|clerk|slow|12|40|12|0|t|t|t", 'progress of another session');
is(query("SET ROLE $_->[0]; SELECT count(*) FROM ocr_progress"), $_->[1], "as $_->[0] sees it")
  for [ clerk => 1 ], [ other_clerk => 0 ], [ auditor => 1 ];
query("SELECT pg_terminate_backend($pid, 10000)");
is(query('SELECT count(*) FROM ocr_progress'), '0', 'the end of a backend ends it');
is(query('SELECT count(content) FROM slow'), '8', 'what was committed stays');
$job->{run}->finish;

$node->stop;
done_testing();
