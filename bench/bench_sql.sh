#!/bin/sh
# bench_sql.sh [IMAGE...]
#
# What PostgreSQL adds to the engine, in a throw-away server with the installed extension:
# the time of ocr() beside the time of the engine's stages in the same page, the pages read
# together beside the pages read one by one, and a job: how much of its time is the engine's,
# and how fast it is beside the engine with all pages in one batch, which has no transactions
# to end. PAGES repeats the images until there are so many (16); MODEL names another model
# than the default one (a folder that the server's user may read), MAX_TOKENS cuts its texts.
# The last number is a quotient of times at different moments: use a quiet machine.
set -eu
cd "$(dirname "$0")/.."
. tools/lib.sh
[ $# -gt 0 ] || set -- demo/pages/letter.png demo/pages/receipt.png demo/pages/scan.jpg

{
    echo "CREATE TABLE images (image bytea);"
    for image; do
        echo "\\set image \`base64 -w0 '$image'\`"
        echo "INSERT INTO images VALUES (decode(:'image', 'base64'));"
    done
    echo "\\set pages ${PAGES:-16}"
    echo "\\set model '${MODEL:-default}'"
    echo "\\set max_tokens ${MAX_TOKENS:-0}"
    cat bench/bench_sql.sql
} | tools/with-cluster.sh psql -X -q
