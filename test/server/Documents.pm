# Documents made of the sample pages, whose pixels are those of the pages
# themselves: a TIFF or a PDF holds each page's own JPEG, or the rows of its PNG. And TIFFs of
# the pages of others, whatever their kind.
package Documents;

use strict;
use warnings;

use Compress::Zlib;
use Exporter 'import';

our @EXPORT = qw(tiff_of tiff_of_tiffs pdf_of);

# Width, height, number of components and bytes of a JPEG.
sub jpeg
{
	my ($bytes) = @_;
	my $at = 2;
	while (ord(substr $bytes, $at + 1) < 0xC0 || ord(substr $bytes, $at + 1) > 0xC2)
	{
		$at += 2 + unpack 'n', substr $bytes, $at + 2, 2;
	}
	my ($height, $width, $components) = unpack 'x5 n n C', substr $bytes, $at;
	return { width => $width, height => $height, components => $components, jpeg => $bytes };
}

# Width, height, depth, palette and packed rows of a palette PNG whose rows are not filtered.
sub png
{
	my ($bytes) = @_;
	my ($at, $compressed, %image) = (8, '');
	while ($at < length $bytes)
	{
		my ($size, $type) = unpack 'N a4', substr $bytes, $at, 8;
		my $body = substr $bytes, $at + 8, $size;
		@image{qw(width height bits)} = unpack 'N N C', $body if $type eq 'IHDR';
		$image{palette} = $body if $type eq 'PLTE';
		$compressed .= $body if $type eq 'IDAT';
		$at += 12 + $size;
	}
	my $row = int(($image{width} * $image{bits} + 7) / 8);
	for my $filtered (unpack "(a@{[$row + 1]})*", uncompress($compressed))
	{
		die 'a filtered row' if ord $filtered;
		$image{rows} .= substr $filtered, 1;
	}
	return \%image;
}

sub image
{
	my ($bytes) = @_;
	return $bytes =~ /^\xFF\xD8/ ? jpeg($bytes) : png($bytes);
}

# Page of a TIFF: its data, and tags as [tag, type, count, value].
sub tiff_page
{
	my ($image, $at) = @_;
	my $data = $image->{jpeg} // compress($image->{rows});
	my $jpeg = defined $image->{jpeg};
	my @tags = ([ 256, 4, 1, $image->{width} ], [ 257, 4, 1, $image->{height} ],
		[ 258, 3, 1, $jpeg ? 8 : $image->{bits} ],
		[ 259, 3, 1, $jpeg ? 7 : 8 ],                                     # JPEG, Deflate
		[ 262, 3, 1, !$jpeg ? 3 : $image->{components} == 1 ? 1 : 6 ],    # palette, grey, YCbCr
		[ 273, 4, 1, $at ], [ 277, 3, 1, $jpeg ? $image->{components} : 1 ],
		[ 278, 4, 1, $image->{height} ], [ 279, 4, 1, length $data ]);
	if (!$jpeg)
	{
		my $colors = 1 << $image->{bits};
		$data .= "\0" if length($data) % 2;
		push @tags, [ 320, 3, 3 * $colors, $at + length $data ];
		for my $channel (0 .. 2)
		{
			$data .= pack 'v*', map { 257 * ord substr $image->{palette}, 3 * $_ + $channel, 1 } 0 .. $colors - 1;
		}
	}
	$data .= "\0" if length($data) % 2;
	return ($data, @tags);
}

# A TIFF of these image files.
sub tiff_of
{
	my $tiff = "II*\0\0\0\0\0";
	my $link = 4;
	for my $bytes (@_)
	{
		my ($data, @tags) = tiff_page(image($bytes), length $tiff);
		$tiff .= $data;
		substr($tiff, $link, 4) = pack 'V', length $tiff;
		$tiff .= pack 'v', scalar @tags;
		$tiff .= pack 'v v V V', @$_ for @tags;
		$link = length $tiff;
		$tiff .= pack 'V', 0;
	}
	return $tiff;
}

# Bytes of a value of each type of TIFF.
my @type_size = (0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8);

# The entries of a TIFF's first page, as { tag => [type, bytes] }.
sub tiff_entries
{
	my ($tiff) = @_;
	my ($at) = unpack 'x4 V', $tiff;
	my %entries;
	for my $i (0 .. unpack('v', substr $tiff, $at, 2) - 1)
	{
		my ($tag, $type, $count, $value) = unpack 'v v V a4', substr $tiff, $at + 2 + 12 * $i, 12;
		my $length = $count * $type_size[$type];
		$entries{$tag} = [ $type, $length <= 4 ? substr($value, 0, $length) : substr $tiff, unpack('V', $value), $length ];
	}
	return \%entries;
}

sub tiff_numbers
{
	my ($type, $bytes) = @{ $_[0] };
	return unpack $type == 3 ? 'v*' : 'V*', $bytes;
}

# A TIFF of the first pages of these TIFFs (of the usual kind, with the low byte first), each as it is stored.
sub tiff_of_tiffs
{
	my $tiff = "II*\0\0\0\0\0";
	my $link = 4;
	my $add = sub {
		my ($bytes) = @_;
		$tiff .= "\0" if length($tiff) % 2;
		$tiff .= $bytes;
		return length($tiff) - length $bytes;
	};
	for my $file (@_)
	{
		my $entries = tiff_entries($file);
		my ($offsets, $sizes) = $entries->{324} ? (324, 325) : (273, 279);    # of tiles, of strips
		my @sizes = tiff_numbers($entries->{$sizes});
		$entries->{$offsets} =
		  [ 4, pack 'V*', map { $add->(substr $file, $_, shift @sizes) } tiff_numbers($entries->{$offsets}) ];
		my $directory = pack 'v', scalar keys %$entries;
		for my $tag (sort { $a <=> $b } keys %$entries)
		{
			my ($type, $bytes) = @{ $entries->{$tag} };
			$directory .= pack 'v v V a4', $tag, $type, length($bytes) / $type_size[$type],
			  length $bytes <= 4 ? $bytes : pack 'V', $add->($bytes);
		}
		my $at = $add->($directory . "\0\0\0\0");
		substr($tiff, $link, 4) = pack 'V', $at;
		$link = length($tiff) - 4;
	}
	return $tiff;
}

sub pdf_image
{
	my ($image) = @_;
	my $jpeg = defined $image->{jpeg};
	my $data = $image->{jpeg} // compress($image->{rows});
	my $space = $jpeg ? ($image->{components} == 1 ? '/DeviceGray' : '/DeviceRGB')
	  : sprintf '[/Indexed /DeviceRGB %d <%s>]', length($image->{palette}) / 3 - 1, unpack 'H*', $image->{palette};
	return sprintf("<</Type/XObject /Subtype/Image /Width %d /Height %d /BitsPerComponent %d /ColorSpace %s "
		  . "/Filter/%s /Length %d>>\nstream\n", $image->{width}, $image->{height}, $jpeg ? 8 : $image->{bits},
		$space, $jpeg ? 'DCTDecode' : 'FlateDecode', length $data) . "$data\nendstream";
}

# A PDF of these image files, each a page of as many points as make its pixels at this resolution.
sub pdf_of
{
	my ($resolution, @files) = @_;
	my @objects = ('<</Type/Catalog /Pages 2 0 R>>', '');
	my @pages;
	for my $bytes (@files)
	{
		my $image = image($bytes);
		my @size = map { ($_ - 0.02) * 72 / $resolution } @{$image}{qw(width height)}; # is rounded up
		my $drawing = sprintf '%f 0 0 %f 0 0 cm /I Do', @size;
		push @objects, pdf_image($image), sprintf("<</Length %d>>\nstream\n%s\nendstream", length $drawing, $drawing);
		push @objects, sprintf('<</Type/Page /Parent 2 0 R /MediaBox [0 0 %f %f] /Contents %d 0 R '
			  . '/Resources <</XObject <</I %d 0 R>>>>>>', @size, scalar @objects, scalar(@objects) - 1);
		push @pages, scalar(@objects) . ' 0 R';
	}
	$objects[1] = sprintf '<</Type/Pages /Count %d /Kids [%s]>>', scalar @pages, "@pages";

	my ($pdf, $table) = ("%PDF-1.4\n", "0000000000 65535 f \n");
	for my $i (0 .. $#objects)
	{
		$table .= sprintf "%010d 00000 n \n", length $pdf;
		$pdf .= sprintf "%d 0 obj\n%s\nendobj\n", $i + 1, $objects[$i];
	}
	my $at = length $pdf;
	my $count = @objects + 1;
	return $pdf . "xref\n0 $count\n${table}trailer\n<</Size $count /Root 1 0 R>>\nstartxref\n$at\n%%EOF\n";
}

1;
