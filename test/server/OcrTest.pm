# What the server tests share: a cluster with the sample pages in it, a look at
# a backend's memory, and checkpoint folders that are broken in one way each.
#
# The tests run in a folder that holds server/, goldens/, demo/pages/, checkpoints/, doc/ and README.md.
package OcrTest;

use strict;
use warnings;

use Compress::Zlib;
use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename;
use File::Copy;
use JSON::PP;
use List::Util qw(min sum);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes;

our @EXPORT = qw(start_cluster kill_backend documented_sql pages_read page_text read_file write_file processes children copy_folder nano_folder quick_folder edit_json
  read_safetensors write_safetensors private_kb median least_of
  bytea load_pages load_image grey_png load_numbered_pages golden golden_text);

my $root = dirname(dirname(abs_path(__FILE__)));

sub read_file
{
	my ($path) = @_;
	open my $file, '<:raw', $path or die "$path: $!";
	local $/;
	return <$file>;
}

sub write_file
{
	my ($path, $content) = @_;
	open my $file, '>:raw', $path or die "$path: $!";
	print $file $content;
	close $file or die "$path: $!";
}

# The processes of which /proc/PID/FILE matches the pattern. One that ends meanwhile has nothing to read.
sub processes
{
	my ($file, $pattern) = @_;
	return grep { (eval { read_file($_) } // '') =~ $pattern } glob "/proc/[0-9]*/$file";
}

# The children of a process, those included that ended and nobody waited for.
sub children
{
	my ($pid) = @_;
	return processes('stat', qr/^\d+ \(.*\) \w $pid /s);
}

# What is printed on a sample page.
sub page_text
{
	my ($name) = @_;
	my $text = read_file("$root/demo/pages/$name.txt");
	chomp $text;
	return $text;
}

# The SQL of a section of a document, one string for each block.
sub documented_sql
{
	my ($document, $heading) = @_;
	my ($section) = read_file("$root/$document") =~ /^#+ \Q$heading\E\n(.*?)(?=^#+ |\z)/ms
	  or die "$document has no section \"$heading\"";
	return $section =~ /^```sql\n(.*?)^```/msg;
}

# Pages that a database's sessions have read. Needs the library to be preloaded.
sub pages_read
{
	my ($node, $database) = @_;
	return $node->safe_psql($database // 'postgres',
		'SELECT pages FROM pg_stat_ocr WHERE shared AND datname = current_database()');
}

# A started server with the extension and the table pages (name, image). Without autovacuum, which would come at
# some moment to change plans and memory, and have backends close files.
sub start_cluster
{
	my ($name, $conf) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(extra => [ '--encoding=UTF8', '--locale=C' ]);
	$node->append_conf('postgresql.conf', 'autovacuum = off');
	$node->append_conf('postgresql.conf', $conf) if $conf;
	$node->start;
	load_pages($node, 'postgres');
	return $node;
}

# Kill a backend of a server that restarts after a crash, and wait until it has. A connection that can be made does
# not say so: the postmaster may not have noticed yet, and will end it with the others.
sub kill_backend
{
	my ($node, $pid) = @_;
	my $offset = -s $node->logfile;
	kill 'KILL', $pid;
	$node->wait_for_log(qr/reinitializing.*ready to accept connections/s, $offset);
}

# Bytes as an SQL literal.
sub bytea
{
	return sprintf "'\\x%s'", unpack 'H*', $_[0];
}

sub load_pages
{
	my ($node, $database) = @_;
	my $sql = "CREATE EXTENSION deepseek_ocr;\n"
	  . "CREATE TABLE pages (name text PRIMARY KEY, image bytea NOT NULL);\n";
	for my $path (sort glob "$root/demo/pages/*.png $root/demo/pages/*.jpg")
	{
		my ($page) = fileparse($path, qr/\.\w+/);
		$sql .= "INSERT INTO pages VALUES ('$page', " . bytea(read_file($path)) . ");\n";
	}
	$node->safe_psql($database, $sql);
}

# A PNG file in 8 bits of grey; $row->($y) is a row's pixels, a byte each.
sub grey_png
{
	my ($width, $height, $row) = @_;
	my $chunk = sub { pack('N', length $_[1]) . "$_[0]$_[1]" . pack('N', crc32("$_[0]$_[1]")) };
	return "\x89PNG\r\n\x1a\n"
	  . $chunk->('IHDR', pack('NNC5', $width, $height, 8, 0, 0, 0, 0))
	  . $chunk->('IDAT', compress(join '', map { "\0" . $row->($_) } 0 .. $height - 1))
	  . $chunk->('IEND', '');
}

# Rows of 3 x 5 dots, a bit each.
my @digits = (075557, 026227, 071747, 071717, 055711, 074717, 074757, 071111, 075757, 075717);

# A small page with a number of up to four digits on it.
sub numbered_page
{
	my ($number) = @_;
	my ($width, $height, $dot) = (136, 60, 8);
	my @rows = ("\xff" x $width) x $height;
	my @number = split //, $number;
	for my $i (0 .. $#number)
	{
		for my $bit (grep { $digits[ $number[$i] ] >> (14 - $_) & 1 } 0 .. 14)
		{
			my ($x, $y) = ($dot * (1 + 4 * $i + $bit % 3), $dot * (1 + int($bit / 3)));
			substr($rows[$_], $x, $dot) = "\0" x $dot for $y .. $y + $dot - 1;
		}
	}
	return grey_png($width, $height, sub { $rows[ $_[0] ] });
}

# Make a table (id, image) of pages that are numbered from 1 to $count.
sub load_numbered_pages
{
	my ($node, $table, $count) = @_;
	my $values = join ', ', map { "($_, " . bytea(numbered_page($_)) . ')' } 1 .. $count;
	$node->safe_psql('postgres',
		"CREATE TABLE $table (id integer PRIMARY KEY, image bytea); INSERT INTO $table VALUES $values");
}

# A case of goldens/, as a hash.
sub golden
{
	my ($name) = @_;
	return decode_json(read_file("$root/goldens/$name.json"));
}

# Its text as ocr() gives it: UTF-8 without white space at the ends.
sub golden_text
{
	my ($case) = @_;
	my $text = $case->{text} =~ s/^\s+|\s+$//gr;
	utf8::encode($text);
	return $text;
}

# Put a case's image into the table golden (image).
sub load_image
{
	my ($node, $database, $case) = @_;
	my $image = bytea(read_file("$root/goldens/images/$case->{image}{file}"));
	$node->safe_psql($database,
		"CREATE TABLE IF NOT EXISTS golden (image bytea); TRUNCATE golden; INSERT INTO golden VALUES ($image)");
}

sub copy_folder
{
	my ($from, $to) = @_;
	mkdir $to or die "$to: $!";
	copy($_, $to) or die "$_: $!" for grep { -f } glob "$from/*";
	return $to;
}

sub edit_json
{
	my ($path, $change) = @_;
	my $content = decode_json(read_file($path));
	$change->($content);
	write_file($path, JSON::PP->new->utf8->canonical->encode($content));
}

# A small checkpoint with weights that mean nothing, for tests of loading.
sub nano_folder
{
	return "$root/checkpoints/nano1";
}

# A copy of it that takes some ten milliseconds for a page in mode auto; for tests that count pages.
sub quick_folder
{
	my ($to) = @_;
	copy_folder(nano_folder(), $to);
	edit_json("$to/config.json", sub { $_[0]{ocr} = { auto => [ [ undef, 'tiny' ] ] } });
	return $to;
}

# (header as a hash, payload as bytes)
sub read_safetensors
{
	my ($path) = @_;
	my $bytes = read_file($path);
	my $length = unpack 'Q<', $bytes;
	return (decode_json(substr $bytes, 8, $length), substr $bytes, 8 + $length);
}

sub write_safetensors
{
	my ($path, $header, $payload) = @_;
	my $json = JSON::PP->new->utf8->canonical->encode($header);
	$json .= ' ' x (-length($json) % 8);
	write_file($path, pack('Q<', length $json) . $json . $payload);
}

# Memory in kB that a process has written to and shares with no other.
sub private_kb
{
	my ($pid) = @_;
	return sum(read_file("/proc/$pid/smaps_rollup") =~ /^Private_Dirty:\s+(\d+) kB/mg);
}

# A number for each case, which $measure->(@cases) gives. Those above the limit are measured again, twice at most, and
# the least counts: the machine may have been busy elsewhere, but what is slow by itself is slow each time.
sub least_of
{
	my ($limit, $measure, @cases) = @_;
	my @least = $measure->(@cases);
	for (1 .. 2)
	{
		my @high = grep { $least[$_] > $limit } 0 .. $#cases;
		last if !@high;
		my @again = $measure->(@cases[@high]);
		$least[ $high[$_] ] = min($least[ $high[$_] ], $again[$_]) for 0 .. $#high;
	}
	return @least;
}

sub median
{
	my @sorted = sort { $a <=> $b } @_;
	return $sorted[ @sorted / 2 ];
}

1;
