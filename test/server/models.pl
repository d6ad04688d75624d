# Models: several at once, replaced while in use, and broken in every way.
use strict;
use warnings;

use lib 'server';
use OcrTest;
use Cwd qw(abs_path);
use File::Path qw(remove_tree);
use JSON::PP;
use List::Util qw(product sum);
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep);

my $node = start_cluster('models');
my $session = $node->background_psql('postgres', on_error_stop => 0);
$session->set_query_timer_restart;
my $folders = abs_path(PostgreSQL::Test::Utils::tempdir());
my $nano = nano_folder();
my ($first_shard) = map { s/.*\///r } sort glob "$nano/*.safetensors";

# What reading the strip with this model gives: a fingerprint, or SQLSTATE and message.
sub outcome
{
	my ($folder) = @_;
	$session->{stderr} = '';
	my $out = $session->query("\\set VERBOSITY verbose\n"
		. "SET deepseek_ocr.model = '$folder';\n"
		. "SELECT md5(vision_tokens(image, 'tiny')::text) FROM pages WHERE name = 'strip';");
	return $session->{stderr} =~ /ERROR:\s+(.*)/ ? $1 : $out;
}

# ---- two models side by side ----

my $default = outcome('default');
my $random = outcome($nano);
like($_, qr/^\w{32}$/, 'a model reads') for $default, $random;
isnt($default, $random, 'two models differ');
is(outcome('default'), $default, 'one backend goes from one');
is(outcome($nano), $random, 'to the other and back');
is($session->query_safe("SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'deepseek_ocr model'"),
	'2', 'and keeps both open');

my @copies = map { copy_folder($nano, "$folders/copy$_") } 1 .. 6;
is(outcome($_), $random, 'a copy of a model is as good') for @copies;
is($session->query_safe("SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'deepseek_ocr model'"),
	'4', 'but only a few stay open');

# ---- a smaller copy ----

sub fails_with
{
	my ($sqlstate, $query, $what) = @_;
	my ($code, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$query");
	like($err, qr/ERROR:\s+$sqlstate:/, $what);
}

my $source = abs_path('checkpoints/micro2');
my $small = "$folders/small";
my $bytes = $node->safe_psql('postgres', "SELECT ocr_quantize_model('$source', '$small');");
is($bytes, sum(map { -s } glob "$small/*.safetensors"), 'the size of a copy in 8 bits');
cmp_ok($bytes, '<', 0.7 * sum(map { -s } glob "$source/*.safetensors"), 'is about half');
is($node->safe_psql('postgres',
		"SET deepseek_ocr.model = '$small'; SELECT array_dims(vision_tokens(image, 'tiny')) FROM pages WHERE name = 'letter'"),
	$node->safe_psql('postgres',
		"SET deepseek_ocr.model = '$source'; SELECT array_dims(vision_tokens(image, 'tiny')) FROM pages WHERE name = 'letter'"),
	'and the copy reads');
is($node->safe_psql('postgres',
		"SET deepseek_ocr.model = '$small'; SELECT weight_type FROM ocr_models() WHERE current"),
	'q8', 'ocr_models() tells its type');
fails_with('OC106', "SELECT ocr_quantize_model('$source', '$small', 'q4')", 'a folder is not overwritten');
fails_with('OC103', "SELECT ocr_quantize_model('default', '$small-5', 'q4')", 'nor a copy copied');
fails_with('22023', "SELECT ocr_quantize_model('$source', '$small-5', 'q5')", 'there is no other type');
fails_with('22023', "SELECT ocr_quantize_model('../default', '$small-5')", 'nor a name with a path');
fails_with('58P01', "SELECT ocr_quantize_model('nowhere', '$small-5')", 'a missing model is named');
fails_with('57014', "SET statement_timeout = 3; SELECT ocr_quantize_model('$source', '$small-4', 'q4')",
	'it can be cancelled');
is(join(' ', glob "$small-*"), '', 'and leaves nothing behind');
remove_tree($small);

# A matrix that takes many seconds: time to end the backend in the midst of it. It is all zeros, without a place on disk.
my ($rows, $columns) = (1000000, 2048);
mkdir "$folders/zeros" or die $!;
write_safetensors("$folders/zeros/model.safetensors",
	{ 'zeros.weight' => { dtype => 'F32', shape => [ $rows, $columns ], data_offsets => [ 0, 4 * $rows * $columns ] } }, '');
truncate "$folders/zeros/model.safetensors", 4 * $rows * $columns + -s "$folders/zeros/model.safetensors" or die $!;
my $writer = $node->background_psql('postgres', on_error_stop => 0);
my $pid = $writer->query_safe('SELECT pg_backend_pid()');
$writer->query_until(qr/writing/, "\\echo writing\nSELECT ocr_quantize_model('$folders/zeros', '$small-6');\n");
sleep 0.01 until -e "$small-6.partial/model.safetensors";
is($node->safe_psql('postgres', "SELECT pg_terminate_backend($pid, 10000)"), 't', 'its backend can be ended');
is(join(' ', glob "$small-*"), '', 'and leaves nothing behind');
$writer->{run}->finish;

# ---- the folder changes under a running backend ----

# Replace the first shard by one whose largest tensor of the image encoder has its halves exchanged.
sub other_weights
{
	my ($folder) = @_;
	my ($header, $payload) = read_safetensors("$folder/$first_shard");
	my ($from, $to) = @{ max_by_size(map { $header->{$_}{data_offsets} } grep { /sam_model.*weight/ } keys %$header) };
	my $half = ($to - $from) / 2;
	substr($payload, $from, 2 * $half) = substr($payload, $from + $half, $half) . substr($payload, $from, $half);
	write_safetensors("$folder/$first_shard.new", $header, $payload);
	rename "$folder/$first_shard.new", "$folder/$first_shard" or die $!;
}

sub max_by_size
{
	return (sort { $b->[1] - $b->[0] <=> $a->[1] - $a->[0] } @_)[0];
}

my $used = $copies[0];
outcome($used);
other_weights($used);
my $other = outcome($used);
like($other, qr/^\w{32}$/, 'a replaced file is a model again');
isnt($other, $random, 'and the next call takes it');
rename $used, "$used.old" or die $!;
like(outcome($used), qr/^58P01: .*could not open/, 'a folder that went away is missed');
rename $copies[1], $used or die $!;
is(outcome($used), $random, 'and another in its place is found');

# ---- broken folders ----

# The tensor of the first shard whose name ends so, or the largest one.
sub tensor
{
	my ($header, $suffix) = @_;
	my ($name) = sort grep { /\Q$suffix\E$/ } keys %$header;
	return $name;
}

my $index = 'model.safetensors.index.json';
my @broken = (
	[ 'no files', '58P01', qr/config\.json/, sub { unlink glob "$_[0]/*" } ],
	[ 'no config.json', '58P01', qr/config\.json/, sub { unlink "$_[0]/config.json" } ],
	[ 'no tokenizer.json', '58P01', qr/tokenizer\.json/, sub { unlink "$_[0]/tokenizer.json" } ],
	[ 'no weights', '58P01', qr/safetensors/, sub { unlink glob "$_[0]/*safetensors*" } ],
	[ 'a missing shard', '58P01', qr/$first_shard/, sub { unlink "$_[0]/$first_shard" } ],
	[ 'an unreadable config.json', '58030', qr/Permission denied/, sub { chmod 0, "$_[0]/config.json" } ],
	[ 'an unreadable shard', '58030', qr/Permission denied/, sub { chmod 0, "$_[0]/$first_shard" } ],
	[ 'a folder as a shard', '58030', qr/$first_shard/,
		sub { unlink "$_[0]/$first_shard"; mkdir "$_[0]/$first_shard" } ],

	[ 'config.json not JSON', 'OC101', qr/config\.json is not valid JSON/,
		sub { write_file("$_[0]/config.json", '{"hidden_size": 96,') } ],
	[ 'another architecture', 'OC101', qr/use_mla/,
		sub { edit_json("$_[0]/config.json", sub { $_[0]{use_mla} = $_[0]{language_config}{use_mla} = JSON::PP::true }) } ],
	[ 'config.json that contradicts itself', 'OC101', qr/hidden_size/,
		sub { edit_json("$_[0]/config.json", sub { $_[0]{hidden_size} = 128 }) } ],
	[ 'an impossible number of heads', 'OC101', qr/heads/,
		sub { edit_json("$_[0]/config.json", sub { $_->{num_attention_heads} = $_->{num_key_value_heads} = 7 for $_[0], $_[0]{language_config} }) } ],

	[ 'a shard cut short', 'OC102', qr/truncated/,
		sub { truncate "$_[0]/$first_shard", (-s "$_[0]/$first_shard") - 1000 } ],
	[ 'a shard cut to nothing', 'OC102', qr/too short/, sub { truncate "$_[0]/$first_shard", 4 } ],
	[ 'a header of 2^63 bytes', 'OC102', qr/header/,
		sub { patch("$_[0]/$first_shard", 0, pack('Q<', 1 << 63)) } ],
	[ 'a header longer than the file', 'OC102', qr/header/,
		sub { patch("$_[0]/$first_shard", 0, pack('Q<', 1 << 40)) } ],
	[ 'a header that is not JSON', 'OC102', qr/JSON/, sub { patch("$_[0]/$first_shard", 8, '((((') } ],
	[ 'tensors that overlap', 'OC102', qr/overlap/,
		sub { edit_header($_[0], sub { my ($header) = @_;
			my ($one, $two) = grep { $header->{$_}{dtype} eq 'BF16' && @{ $header->{$_}{shape} } == 1 } sort keys %$header;
			my @same = grep { "@{ $header->{$_}{shape} // [] }" eq "@{ $header->{$one}{shape} }" } sort keys %$header;
			$header->{ $same[1] }{data_offsets} = $header->{ $same[0] }{data_offsets} }) } ],
	[ 'offsets that do not fit the shape', 'OC102', qr/does not match/,
		sub { edit_header($_[0], sub { my ($header) = @_; $header->{ tensor($header, '.weight') }{data_offsets}[1] -= 2 }) } ],
	[ 'a shard in another folder', 'OC102', qr/passwd/,
		sub { edit_json("$_[0]/$index", sub { my ($map) = $_[0]{weight_map}; $map->{$_} = '../../etc/passwd' for (sort keys %$map)[0] }) } ],
	[ 'an index that is not JSON', 'OC102', qr/JSON/, sub { write_file("$_[0]/$index", 'weights') } ],

	[ 'a tensor that is missing', 'OC103', qr/missing/,
		sub { my ($folder) = @_; my $gone;
			edit_header($folder, sub { my ($header) = @_; $gone = tensor($header, '.weight'); delete $header->{$gone} });
			edit_json("$folder/$index", sub { delete $_[0]{weight_map}{$gone} }) } ],
	[ 'a tensor of another shape', 'OC103', qr/shape/,
		sub { edit_header($_[0], sub { my ($header) = @_;
			my ($name) = grep { @{ $header->{$_}{shape} // [] } == 2 && $header->{$_}{shape}[0] != $header->{$_}{shape}[1] } sort keys %$header;
			$header->{$name}{shape} = [ reverse @{ $header->{$name}{shape} } ] }) } ],
	[ 'a tensor of another type', 'OC103', qr/type/,
		sub { edit_header($_[0], sub { my ($header) = @_; $header->{ tensor($header, '.weight') }{dtype} = 'I16' }) } ],

	[ 'tokenizer.json not JSON', 'OC104', qr/JSON/, sub { write_file("$_[0]/tokenizer.json", '[') } ],
	[ 'a tokenizer without <image>', 'OC104', qr/<image>/,
		sub { edit_json("$_[0]/tokenizer.json", sub { my ($t) = @_;
			$t->{added_tokens} = [ grep { $_->{content} ne '<image>' } @{ $t->{added_tokens} } ]; delete $t->{model}{vocab}{'<image>'} }) } ],
	[ 'a tokenizer without the letter A', 'OC104', qr/./,
		sub { edit_json("$_[0]/tokenizer.json", sub { delete $_[0]{model}{vocab}{A} }) } ],
	[ 'a token beyond the vocabulary', 'OC104', qr/./,
		sub { edit_json("$_[0]/tokenizer.json", sub { $_[0]{model}{vocab}{A} = 5_000_000 }) } ],

	[ 'weights that are not numbers', 'OC105', qr/./,
		sub { edit_header($_[0], sub { my ($header, $payload) = @_;
			for my $name (grep { /sam_model|vision_model|projector/ && $header->{$_}{dtype} eq 'BF16' } keys %$header) {
				my ($from, $to) = @{ $header->{$name}{data_offsets} };
				substr($$payload, $from, $to - $from) = "\xff\x7f" x (($to - $from) / 2);
			} }) } ],
);

sub patch
{
	my ($path, $offset, $bytes) = @_;
	my $content = read_file($path);
	substr($content, $offset, length $bytes) = $bytes;
	write_file($path, $content);
}

sub edit_header
{
	my ($folder, $change) = @_;
	my ($header, $payload) = read_safetensors("$folder/$first_shard");
	$change->($header, \$payload);
	write_safetensors("$folder/$first_shard", $header, $payload);
}

for my $case (@broken)
{
	my ($what, $sqlstate, $message, $break) = @$case;
	my $folder = copy_folder($nano, "$folders/broken");
	$break->($folder);
	my $got = outcome($folder);
	like($got, qr/^\Q$sqlstate\E: /, "$what: SQLSTATE");
	like($got, $message, "$what: message");
	chmod 0755, glob "$folder/*";
	remove_tree($folder);
}
like(outcome("$folders/nowhere"), qr/^58P01: /, 'no folder at all');
like(outcome('/etc/passwd'), qr/^58P01: /, 'a file for a folder');
is(outcome('default'), $default, 'after all that the backend reads as before');

# ---- what ocr_models() says ----

# Numbers in the tensors of a folder; the one of integers is a buffer.
sub parameters
{
	my ($folder) = @_;
	my $count = 0;
	for my $path (glob "$folder/*.safetensors")
	{
		my ($header) = read_safetensors($path);
		delete $header->{__metadata__};
		$count += product(@{ $_->{shape} }) for grep { $_->{dtype} ne 'I64' } values %$header;
	}
	return $count;
}

my $broken = copy_folder($nano, "$folders/broken");
truncate "$broken/$first_shard", 100;
$session->query_safe("SET deepseek_ocr.model = '$broken'");
is($session->query_safe('SELECT name, error IS NULL FROM ocr_models() ORDER BY current'),
	"default|t\n$broken|f", 'ocr_models() lists what can be used and what cannot');
SKIP:
{
	chomp(my $share = `pg_config --sharedir`);
	my $unfinished = "$share/extension/deepseek_ocr/models/small.partial";
	mkdir $unfinished or skip "the model directory is not the test's to write", 1;
	is($session->query_safe("SELECT count(*) FROM ocr_models() WHERE name LIKE '%partial'"), '0',
		'ocr_models() opens no copy that is being written');
	rmdir $unfinished;
}
is($session->query_safe("SET deepseek_ocr.model = '$nano'; SELECT parameters, weight_type, context FROM ocr_load()"),
	parameters($nano) . '|bf16|8192', 'ocr_load() says what the model is');

$session->quit;
$node->stop;
done_testing();
