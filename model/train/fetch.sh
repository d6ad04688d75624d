#!/bin/sh
# Downloads the packages that the trainer draws on (README.md) and unpacks them into the given folder; installs nothing.
set -e
mkdir -p "$1/debs"
cd "$1/debs"
apt-get download \
    fonts-averia-serif-gwf fonts-b612 fonts-cabin fonts-cantarell fonts-cmu fonts-comfortaa fonts-courier-prime fonts-croscore \
    fonts-crosextra-caladea fonts-crosextra-carlito fonts-dejavu-core fonts-dejavu-extra fonts-dosis fonts-ebgaramond fonts-fantasque-sans \
    fonts-firacode fonts-freefont-ttf fonts-georgewilliams fonts-gfs-artemisia fonts-gfs-didot fonts-gfs-neohellenic fonts-goudybookletter \
    fonts-hack fonts-inconsolata fonts-inter fonts-jetbrains-mono fonts-jura fonts-lato fonts-league-mono fonts-liberation fonts-linex \
    fonts-linuxlibertine fonts-lmodern fonts-monoid fonts-mononoki fonts-noto-core fonts-noto-mono fonts-ocr-a fonts-ocr-b fonts-oldstandard \
    fonts-open-sans fonts-play fonts-prociono fonts-quicksand fonts-roboto-unhinted fonts-sil-andika fonts-sil-charis fonts-sil-doulos \
    fonts-sil-gentium fonts-terminus fonts-texgyre fonts-tuffy fonts-uralic fonts-urw-base35 fonts-vollkorn ttf-bitstream-vera \
    anarchism debian-handbook debian-policy developers-reference installation-guide-amd64 gnome-user-docs perl-doc manpages \
    maint-guide-de maint-guide-es maint-guide-fr maint-guide-it \
    manpages-da manpages-de manpages-es manpages-fr manpages-it manpages-nl manpages-pt-br manpages-sv \
    dict-devil dict-foldoc dict-gcide dict-jargon dict-wn fortunes fortunes-min fortunes-de fortunes-es fortunes-it \
    wamerican wdanish wdutch wfrench wngerman witalian wportuguese wspanish wswedish
for f in *.deb; do
    dpkg -x "$f" ..
done
