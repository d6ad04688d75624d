# The reference's answers, through SQL: text, token counts, shapes of every mode.
use strict;
use warnings;

use lib 'server';
use OcrTest;
use PostgreSQL::Test::Utils;
use Test::More;

my %vision_tokens = (tiny => 64, small => 100, base => 256, large => 400);

my $node = start_cluster('goldens', "deepseek_ocr.model = '" . nano_folder() . "'\ndeepseek_ocr.compute = f32");

# The paper's count: for tiles, those of each and of the overview.
sub paper_count
{
	my ($case) = @_;
	my $tiles = $case->{grid}[0] * $case->{grid}[1];
	$tiles = 0 if $tiles == 1;
	return 256 + 100 * $tiles if $case->{mode} eq 'gundam';
	return 400 + 256 * $tiles if $case->{mode} eq 'gundam-m';
	return $vision_tokens{ $case->{mode} };
}

for my $name (map { s/.*\/|\.json$//gr } sort glob 'goldens/nano_*.json')
{
	my $case = golden($name);
	my $tokens = scalar @{ $case->{tokens} };
	load_image($node, 'postgres', $case);
	my $out = $node->safe_psql('postgres', <<SQL);
		SET deepseek_ocr.no_repeat_ngram_size = $case->{no_repeat_ngram_size};
		SET deepseek_ocr.max_tokens = $tokens;
		SELECT encode(convert_to(d.text, 'UTF8'), 'hex'), d.tokens, d.finish, d.vision_tokens, d.prompt_tokens,
			vision_token_count(image, '$case->{mode}')
		FROM golden, ocr_detail(image, '$case->{mode}', \$prompt\$$case->{prompt}\$prompt\$) AS d;
SQL
	is($out, join('|', unpack('H*', golden_text($case)), $tokens, 'length', paper_count($case),
			$case->{input}{length}, paper_count($case)), $name);
}

my $case = golden('nano_page_small_tiny');
load_image($node, 'postgres', $case);
my ($slots, $hidden) = @{ $case->{tensors}{vision_sequence}{shape} };
my %sample = map { $_->[0] => $_->[1] } @{ $case->{tensors}{vision_sequence}{samples} };
is($node->safe_psql('postgres', "SELECT array_dims(vision_tokens(image, 'tiny')) FROM golden"),
	"[1:$slots][1:$hidden]", 'vision_tokens() has a row for each slot');
my $worst = $node->safe_psql('postgres', sprintf
	  q{SELECT max(abs(v.tokens[(s.at / %d) + 1][(s.at %% %d) + 1] - s.value))
		FROM (SELECT vision_tokens(image, 'tiny') AS tokens FROM golden) AS v,
			unnest(ARRAY[%s], ARRAY[%s]::float8[]) AS s (at, value)},
	$hidden, $hidden, join(',', sort keys %sample), join(',', map { $sample{$_} } sort keys %sample));
cmp_ok($worst, '<', 1e-4 * $case->{tensors}{vision_sequence}{std} + 1e-5, 'and the reference\'s numbers in it');

$node->stop;
done_testing();
