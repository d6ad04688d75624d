# Full-text search: the README's recipe 2, and how often a page is read for it
# and for the ways of doing it that the documentation compares.
use strict;
use warnings;

use lib 'server';
use OcrTest;
use Cwd qw(abs_path);
use PostgreSQL::Test::Utils;
use Test::More;

my $folder = abs_path(PostgreSQL::Test::Utils::tempdir());
my $node = start_cluster('search', <<CONF);
shared_preload_libraries = 'deepseek_ocr'
deepseek_ocr.model = '${\quick_folder("$folder/quick")}'
deepseek_ocr.max_tokens = 3
autovacuum = off
CONF
my ($recipe, $trigger_recipe) = documented_sql('README.md', '2. Full-text search');

# Statements are separated by a blank line from what comes after them.
my ($create, $search) = split /\n\n/, $recipe;

# ---- the recipe as it stands ----

$node->safe_psql('postgres', 'CREATE DATABASE recipe');
load_pages($node, 'recipe');
my $read_well = "SET deepseek_ocr.model = 'default'; RESET deepseek_ocr.max_tokens; SET deepseek_ocr.max_tokens = 0;";
$node->safe_psql('recipe', $create);
$node->safe_psql('recipe',
	"$read_well INSERT INTO archive (image) SELECT image FROM pages WHERE name IN ('scan', 'letter') ORDER BY name DESC");
like($node->safe_psql('recipe', $search), qr/^1\|[^|]*<b>pear<\/b> <b>trees<\/b> beside\n[^|]*$/,
	'the README\'s search finds the page and shows the place');
(my $common = $search) =~ s/pear trees/open OR office/;
is(join(' ', $node->safe_psql('recipe', $common) =~ /^(\d+)\|/mg), '2 1', 'and ranks the better match first');

# ---- how often a page is read ----

use constant ROWS => 3;

my %designs = (
	'generated column' => { table => 'archive', text => 'content', create => $create },
	'trigger' => { table => 'library', text => 'content', create => $trigger_recipe },
	'index' => { table => 'scans', text => 'ocr(image)', create => q{
		CREATE TABLE scans (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, image bytea);
		CREATE INDEX ON scans USING gin (to_tsvector('english', ocr(image)));} });

# What is done to TABLE, under the names that the documentation has for it.
my @operations = (
	'`INSERT`' => "INSERT INTO TABLE (image) SELECT image FROM pages, generate_series(1, ${\ROWS}) WHERE name = 'letter'",
	'`COPY`' => "COPY TABLE (image) TO '$folder/rows'; DELETE FROM TABLE; COPY TABLE (image) FROM '$folder/rows'",
	'`INSERT ... ON CONFLICT DO NOTHING`' =>
	  'INSERT INTO TABLE (id, image) OVERRIDING SYSTEM VALUE SELECT id, image FROM TABLE ON CONFLICT DO NOTHING',
	'`UPDATE` of another column' => "UPDATE TABLE SET note = 'new'",
	'`UPDATE` of the image' => q{UPDATE TABLE SET image = image || '\x00'},
	'`ANALYZE`' => 'ANALYZE TABLE',
	'`CREATE INDEX`' => "CREATE INDEX extra ON TABLE USING gin (to_tsvector('english', TEXT)); DROP INDEX extra",
	'`REINDEX`' => 'REINDEX TABLE TABLE',
	'`VACUUM FULL`' => 'VACUUM FULL TABLE',
	'a search' => q{SET enable_seqscan = off;
		SELECT ts_headline('english', TEXT, query) FROM TABLE, websearch_to_tsquery('english', 'detail') AS query
		WHERE to_tsvector('english', TEXT) @@ query ORDER BY ts_rank(to_tsvector('english', TEXT), query) DESC});

# { design => { operation => pages } }, from the table in the documentation.
sub documented_counts
{
	my ($heading, undef, @lines) =
	  map { [ split / *\| */, s/^\| *//r ] } read_file('doc/immutability.md') =~ /^## How often.*?\n\n.*?\n\n(\|.*?)\n\n/ms
	  ? split(/\n/, $1) : die;
	my (undef, @names) = @$heading;
	my %counts;
	for my $line (@lines)
	{
		my ($operations, @pages) = @$line;
		$counts{ $names[$_] }{$operations} = $pages[$_] for 0 .. $#names;
	}
	return \%counts;
}

my $documented = documented_counts();
is(join(', ', sort keys %$documented), join(', ', sort keys %designs), 'the documentation compares what is tested here');

sub documented
{
	my ($design, $operation) = @_;
	my ($line) = grep { index($_, $operation) >= 0 } keys %{ $documented->{$design} };
	return $documented->{$design}{ $line // die "nothing is documented about $operation" };
}

# Run SQL in the design's database; pages that were read.
sub count
{
	my ($database, $sql) = @_;
	my $before = pages_read($node, $database);
	my $out = $node->safe_psql($database, $sql);
	return (pages_read($node, $database) - $before, $out);
}

for my $design (sort keys %designs)
{
	my ($table, $text, $setup) = @{ $designs{$design} }{qw(table text create)};
	my $database = $table;
	$node->safe_psql('postgres', "CREATE DATABASE $database");
	load_pages($node, $database);
	# With an index on the column that changes, no new row version stays in the place of the old one.
	$node->safe_psql($database, "$setup; ALTER TABLE $table ADD note text; CREATE INDEX note ON $table (note)");
	for (my $i = 0; $i < @operations; $i += 2)
	{
		my ($name, $sql) = @operations[ $i, $i + 1 ];
		my ($pages, $out) = count($database, $sql =~ s/\bTABLE\b(?! TABLE)/$table/gr =~ s/TEXT/$text/gr);
		is($pages, ROWS * documented($design, $name), "$design: $name");
		is(scalar(() = $out =~ /<b>/g), 2 * ROWS, "$design: all rows are found") if $name eq 'a search';
	}

	my $before = pages_read($node, $database);
	$node->command_ok([ 'pg_dump', '-Fc', '-f', "$folder/$database.dump", $database ], "$design: the database is dumped");
	is(pages_read($node, $database) - $before, ROWS * documented($design, '`pg_dump`'), "$design: `pg_dump`");
	$node->safe_psql('postgres', "CREATE DATABASE restored_$database");
	$node->command_ok([ 'pg_restore', '-e', '-d', "restored_$database", "$folder/$database.dump" ], "$design: and restored");
	is(pages_read($node, "restored_$database"), ROWS * documented($design, '`pg_restore`'), "$design: `pg_restore`");
	is($node->safe_psql("restored_$database", "SELECT count(*) FROM $table WHERE $text LIKE '%detail%'"), ROWS,
		"$design: with all texts");
}

# ---- what the documentation says besides ----

my ($hot) = count('scans', "DROP INDEX note; UPDATE scans SET note = 'newer' WHERE id = (SELECT min(id) FROM scans)");
is($hot, 0, 'an index costs nothing where an update is done in place');
my ($triggered) = count('archive', q{
	CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
	CREATE TRIGGER nothing BEFORE UPDATE ON archive FOR EACH ROW EXECUTE FUNCTION nothing();
	UPDATE archive SET note = 'newest'});
is($triggered, ROWS, 'a BEFORE UPDATE trigger makes generated columns be computed');
my ($explained) = count('postgres', 'EXPLAIN SELECT ocr(' . bytea(read_file('demo/pages/strip.png')) . ')');
is($explained, 1, 'a constant image is read by the planner');
my ($loaded) = count('library', q{
	ALTER TABLE library DISABLE TRIGGER read_image;
	INSERT INTO library (image) SELECT image FROM pages;
	ALTER TABLE library ENABLE TRIGGER read_image});
is($loaded, 0, 'a trigger that is disabled reads nothing');
my ($filled, $counts) = count('library', q{CALL ocr_convert('library', 'image', 'content')});
is("$filled $counts", '4 4|0', 'what was loaded meanwhile is read once by ocr_convert()');
is($node->safe_psql('library', 'SELECT count(*) FROM library WHERE content IS NULL'), 0, 'all of it');

$node->stop;
done_testing();
