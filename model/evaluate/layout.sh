#!/bin/sh
# layout.sh FOLDER [MODE]
#
# Reads the pages of FOLDER that have a file of blocks beside them (page.blocks, a line for each: LABEL LEFT TOP RIGHT
# BOTTOM, in pixels) with ocr_layout() in a throw-away server, and prints by sub-folder how many of these blocks the model
# gives under the same label with a box that overlaps by 0.8, by 0.5 and by 0.3 (intersection over union). MODEL names
# another model than the default one.
set -eu
[ $# -gt 0 ] || { sed -n '2,/^set/{s/^# \{0,1\}//;/^set/!p}' "$0" >&2; exit 2; }
folder=$(cd "$1" && pwd)
mode=${2:-auto}
cd "$(dirname "$0")/../.."

script=$(mktemp)
trap 'rm -f "$script"' EXIT
cat >"$script" <<SQL
\\set ON_ERROR_STOP on
CREATE EXTENSION deepseek_ocr;
SET deepseek_ocr.model = '${MODEL:-default}';
CREATE TABLE found (bucket text, page text, share float8);
SQL
find "$folder" -type f -name '*.blocks' | sort | while read -r blocks; do
    for image in "${blocks%.blocks}".*; do
        case $image in *.blocks | *.txt) continue ;; esac
        cat <<SQL
\\set image \`base64 -w0 '$image'\`
\\set blocks \`cat '$blocks'\`
\\set bucket \`basename "\$(dirname '$image')"\`
\\set page \`basename '$image'\`
WITH seen AS MATERIALIZED (
    SELECT label, box FROM ocr_layout(decode(:'image', 'base64'), '$mode') WHERE box IS NOT NULL
), block AS (
    SELECT w[1] AS label, box(point(w[2]::int, w[3]::int), point(w[4]::int, w[5]::int)) AS box
    FROM regexp_split_to_table(rtrim(:'blocks'), E'\\n') AS line, string_to_array(line, ' ') AS w
)
INSERT INTO found
SELECT :'bucket', :'page', coalesce(max(area(b.box # s.box) / (area(b.box) + area(s.box) - area(b.box # s.box))), 0)
FROM block AS b LEFT JOIN seen AS s ON s.label = b.label
GROUP BY b.label, b.box::text;
SQL
    done
done >>"$script"
cat >>"$script" <<'SQL'
SELECT bucket, count(DISTINCT page) AS pages, count(*) AS blocks, count(*) FILTER (WHERE share >= 0.8) AS "0.8",
       count(*) FILTER (WHERE share >= 0.5) AS "0.5", count(*) FILTER (WHERE share >= 0.3) AS "0.3"
FROM found GROUP BY bucket ORDER BY bucket;
SQL
tools/with-cluster.sh psql -X -q -P footer=off -f "$script"
