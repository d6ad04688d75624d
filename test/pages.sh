#!/bin/sh
# The default model reads test/pages through SQL, with no more errors than test/pages/limits allows,
# and finds the blocks of the pages that have some.
set -eu
cd "$(dirname "$0")/.."
least_blocks=16 # of 17 with the right label and an overlap of 0.8
report=$(mktemp)
trap 'rm -f "$report"' EXIT

TESSERACT='' model/evaluate/evaluate.sh test/pages >"$report"
cat "$report"
awk 'FNR == NR { limit[$1] = $2; next }
     /^tokens/ { exit }
     $1 in limit && $2 == "auto" { seen++; if ($5 !~ /^[0-9.]+$/ || $5 > limit[$1] || $NF > 0) bad = bad " " $1 }
     END { for (bucket in limit) buckets++
           if (seen != buckets || bad) { print "above the limit or not read:" bad; exit 1 } }' test/pages/limits "$report"

model/evaluate/layout.sh test/pages >"$report"
cat "$report"
awk -F '|' -v least="$least_blocks" '$1 ~ /layout/ { found = $4 }
     END { if (found < least) { print "fewer than " least " blocks were found"; exit 1 } }' "$report"
