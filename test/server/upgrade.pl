# From version 0.1 to the present one, with tables that use the extension.
use strict;
use warnings;

use lib 'server';
use OcrTest;
use Cwd qw(abs_path);
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = abs_path(PostgreSQL::Test::Utils::tempdir());
my $node = start_cluster('upgrade', "deepseek_ocr.model = '${\quick_folder(\"$folder/quick\")}'\ndeepseek_ocr.max_tokens = 20");
my $strip = bytea(read_file('demo/pages/strip.png'));
my $letter = bytea(read_file('demo/pages/letter.png'));

sub version
{
	return $node->safe_psql($_[0], "SELECT extversion FROM pg_extension WHERE extname = 'deepseek_ocr'");
}

# ---- 0.1, in use ----

$node->safe_psql('postgres', 'CREATE DATABASE old; ALTER DATABASE old SET search_path = public, reading');
$node->safe_psql('old', q{
	CREATE SCHEMA reading;
	CREATE EXTENSION deepseek_ocr SCHEMA reading VERSION '0.1';
	CREATE TABLE archive (
		id int PRIMARY KEY,
		image bytea,
		mode ocr_mode DEFAULT 'auto',
		content text GENERATED ALWAYS AS (ocr(image, mode)) STORED
	);
	CREATE INDEX ON archive USING gin (to_tsvector('english', content));
	CREATE INDEX ON archive (vision_token_count(image));
	CREATE VIEW details AS SELECT id, d.text, d.finish FROM archive, ocr_detail(image) AS d;
	CREATE FUNCTION first_words(image bytea) RETURNS text LANGUAGE sql AS 'SELECT left(reading.ocr(image), 10)';
	CREATE ROLE clerk;
	REVOKE EXECUTE ON FUNCTION ocr_try FROM PUBLIC;
	GRANT EXECUTE ON FUNCTION ocr_try TO clerk;
});
is(version('old'), '0.1', 'the first version can be installed');
my $text = $node->safe_psql('old', "INSERT INTO archive (id, image) VALUES (1, $strip) RETURNING content");
isnt($text, '', 'and read');

# ---- the present version ----

my $session = $node->background_psql('old');
is($session->query_safe('SELECT content FROM archive'), $text, 'a session looks on');
my (undef, undef, $error) = $node->psql('old', 'ALTER EXTENSION deepseek_ocr UPDATE');
like($error, qr/cannot drop function .*ocr_detail.* because other objects depend on it.*view public\.details/s, 'ocr_detail has a new column: views that use it must go');
is($node->safe_psql('old', 'SELECT text, finish FROM details'), "$text|length", 'until then they work on');
$node->safe_psql('old', 'DROP VIEW details; ALTER EXTENSION deepseek_ocr UPDATE');
is(version('old'), version('postgres'), 'it becomes the one that is installed anew');
is($session->query_safe('SELECT ocr(image) FROM archive'), $text, 'a session that was there before reads on');
is($session->query_safe('SELECT errors FROM pg_stat_ocr'), '0', 'and sees what is new');
$session->quit;

is($node->safe_psql('old', 'SELECT d.text, d.turned FROM archive, reading.ocr_detail(image) AS d'), "$text|0", 'the column is there');
is($node->safe_psql('old', 'SELECT first_words(image) FROM archive'), substr($text, 0, 10), 'a function too');
my $other = $node->safe_psql('old', "INSERT INTO archive (id, image, mode) VALUES (2, $letter, 'tiny') RETURNING content");
is($other, $node->safe_psql('postgres', "SELECT ocr($letter)"), 'a generated column too');
is($node->safe_psql('old', "UPDATE archive SET image = $letter WHERE id = 1 RETURNING content"), $other, 'and is kept up to date');
is($node->safe_psql('old', 'SET enable_seqscan = off; SELECT count(*) FROM archive WHERE vision_token_count(image) = 64'),
	2, 'indexes are used');
is($node->safe_psql('old', q{SELECT has_function_privilege('clerk', 'reading.ocr_try(bytea, reading.ocr_mode, text)', 'EXECUTE')}),
	't', 'what was granted stays granted');

# ---- the same as if it were new ----

# Everything in a database that has the extension in the schema reading, but for the numbers of objects.
sub definitions
{
	my ($database) = @_;
	my ($dump) = run_command([ 'pg_dump', '--schema-only', '--binary-upgrade', '-d', $node->connstr($database) ]);
	$dump =~ s/'\{\d+(,\d+)*\}'|^(SET relfrozenxid|WHERE oid) = .*//mg;
	return join "\n", grep { !/binary_upgrade_set_next|^\\(un)?restrict/ } split /\n/, $dump;
}

$node->safe_psql('old', q{
	DROP TABLE archive;
	DROP FUNCTION first_words;
	REVOKE EXECUTE ON FUNCTION reading.ocr_try FROM clerk;
	GRANT EXECUTE ON FUNCTION reading.ocr_try TO PUBLIC;
});
$node->safe_psql('postgres', 'CREATE DATABASE new');
$node->safe_psql('new', 'CREATE SCHEMA reading; CREATE EXTENSION deepseek_ocr SCHEMA reading');
my $new = definitions('new');
like($new, qr/CREATE FUNCTION reading\.ocr\(.*CREATE VIEW reading\.pg_stat_ocr /s, 'definitions can be compared');
is(definitions('old'), $new, 'after the upgrade all definitions are those of a new installation');

$node->stop;
done_testing();
