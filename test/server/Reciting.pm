# Models that recite, so that what becomes of a text can be tested to the letter.
#
# They have the weights of a generated checkpoint, but attention and experts add nothing: the last
# token alone decides what follows it, and lm_head says what. Pictures have no say.
package Reciting;

use strict;
use warnings;

use Exporter 'import';
use JSON::PP;
use List::Util qw(max uniq);
use OcrTest;

our @EXPORT = qw(reciting_folder);

use constant END_ID => 1;

# Write a checkpoint folder that answers a prompt which ends with the text $ending by these texts,
# each of them one token. None may occur twice, for it has one successor.
sub reciting_folder
{
	my ($folder, $ending, @reply) = @_;
	my @texts = ($ending, @reply);
	die 'a token occurs twice' if uniq(@texts) != @texts;
	copy_folder(nano_folder(), $folder);
	my @ids = token_ids("$folder/tokenizer.json", @texts);
	my %predecessor = map { $ids[$_] => $ids[ $_ - 1 ] } 1 .. $#ids;
	$predecessor{ +END_ID } = $ids[-1];

	my %shards = map { $_ => [ read_safetensors($_) ] } glob "$folder/*.safetensors";
	my @embedding = rows(\%shards, 'model.embed_tokens.weight');
	my $nothing = "\0" x length $embedding[0];
	my @head = map { defined $predecessor{$_} ? $embedding[ $predecessor{$_} ] : $nothing } 0 .. $#embedding;
	replace(\%shards, qr/^model\.layers\..*(o_proj|down_proj)/, sub { "\0" x $_[0] });
	replace(\%shards, qr/^lm_head/, sub { join '', @head });
	write_safetensors($_, @{ $shards{$_} }) for keys %shards;
	return $folder;
}

# The ids of tokens with these texts; the file's tokenizer gets those that it lacks.
sub token_ids
{
	my ($path, @texts) = @_;
	my $tokenizer = decode_json(read_file($path));
	my $added = $tokenizer->{added_tokens};
	my %ids = (%{ $tokenizer->{model}{vocab} }, map { $_->{content} => $_->{id} } @$added);
	for my $text (grep { !exists $ids{$_} } @texts)
	{
		$ids{$text} = 1 + max(values %ids);
		push @$added, { %{ $added->[0] }, id => $ids{$text}, content => $text };
	}
	write_file($path, encode_json($tokenizer));
	return @ids{@texts};
}

# The rows of a matrix of 16-bit numbers, as bytes.
sub rows
{
	my ($shards, $name) = @_;
	my ($shard) = grep { $_->[0]{$name} } values %$shards;
	my ($header, $payload) = @$shard;
	my ($begin, $end) = @{ $header->{$name}{data_offsets} };
	return unpack '(a' . 2 * $header->{$name}{shape}[1] . ')*', substr $payload, $begin, $end - $begin;
}

# Put other bytes into tensors whose names match; $make is given their number.
sub replace
{
	my ($shards, $pattern, $make) = @_;
	for my $shard (values %$shards)
	{
		for my $tensor (map { $shard->[0]{$_} } grep { /$pattern/ } keys %{ $shard->[0] })
		{
			my ($begin, $end) = @{ $tensor->{data_offsets} };
			substr($shard->[1], $begin, $end - $begin) = $make->($end - $begin);
		}
	}
}

1;
