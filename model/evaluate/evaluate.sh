#!/bin/sh
# evaluate.sh FOLDER [MODE...]
#
# Reads the pages of FOLDER with the installed extension in a throw-away server and prints how
# many errors there are. A page is an image (jpg, jpeg, png, tif, tiff, webp) beside a text file
# of the same name; sub-folders are buckets. Modes: as in SQL; auto. MODEL names another model than
# the default one (a folder that the server's user may read). Tesseract, where it is installed,
# reads the same pages on one thread; TESSERACT= skips it. KEEP names a folder for the texts.
set -eu
[ $# -gt 0 ] || { sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' "$0" >&2; exit 2; }
folder=$(cd "$1" && pwd)
shift
[ $# -gt 0 ] || set -- auto
cd "$(dirname "$0")/../.."
. tools/lib.sh

out=${KEEP:-$(mktemp -d)}
[ -n "${KEEP:-}" ] || trap 'rm -rf "$out"' EXIT
mkdir -p "$out" build/evaluate
out=$(cd "$out" && pwd)
cc -std=gnu11 -O2 -Wall -Wextra -Werror -o build/evaluate/error_rates model/evaluate/error_rates.c
: >"$out/list"

find "$folder" -type f \( -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.png' -o -iname '*.tif' -o -iname '*.tiff' -o -iname '*.webp' \) |
    sort | while read -r image; do
    if [ -f "${image%.*}.txt" ]; then printf '%s\n' "$image"; fi
done >"$out/images"
[ -s "$out/images" ] || { echo "no image in $folder has a text beside it" >&2; exit 1; }

# name_of IMAGE READER: where the text goes.
name_of() {
    printf '%s/%s.%s' "$out" "$(printf '%s' "${1#"$folder"/}" | tr '/ ' '__')" "$2"
}

bucket_of() {
    bucket=$(dirname "${1#"$folder"/}")
    if [ "$bucket" = . ]; then echo all; else echo "$bucket"; fi
}

# For each page a query, its text to a file, and a line of the list.
script() {
    echo "CREATE EXTENSION deepseek_ocr;"
    echo "SET deepseek_ocr.model = '${MODEL:-default}';"
    for mode; do
        while read -r image; do
            text=$(name_of "$image" "$mode")
            echo "\\set text ''"
            echo "\\set facts '0\terror\t0'"
            echo "\\set image \`base64 -w0 '$image'\`"
            echo "SELECT text, concat_ws(E'\\t', (image_ms + encode_ms + prefill_ms + decode_ms) / 1000, finish, tokens) AS facts"
            echo "FROM ocr_detail(decode(:'image', 'base64'), '$mode') \\gset"
            echo "\\o '$text'"
            echo "\\qecho :text"
            echo "\\o '$text.facts'"
            echo "\\qecho :facts"
            echo "\\o"
            printf '%s\t%s\t%s\t%s\n' "$mode" "$(bucket_of "$image")" "${image%.*}.txt" "$text" >>"$out/pages"
        done <"$out/images"
    done
}

: >"$out/pages"
script "$@" >"$out/script.sql"
tools/with-cluster.sh psql -X -q -f "$out/script.sql"
while read -r page; do
    printf '%s\t%s\n' "$page" "$(cat "${page##*	}.facts")"
done <"$out/pages" >"$out/list"

if [ -n "${TESSERACT-tesseract}" ] && command -v "${TESSERACT-tesseract}" >/dev/null; then
    while read -r image; do
        text=$(name_of "$image" tesseract)
        begin=$(date +%s%N)
        OMP_THREAD_LIMIT=1 "${TESSERACT-tesseract}" "$image" - >"$text" 2>/dev/null || :
        printf 'Tesseract\t%s\t%s\t%s\t%s\tstop\t0\n' "$(bucket_of "$image")" "${image%.*}.txt" "$text" \
            "$(awk "BEGIN { print ($(date +%s%N) - $begin) / 1e9 }")"
    done <"$out/images" >>"$out/list"
fi

build/evaluate/error_rates <"$out/list"
