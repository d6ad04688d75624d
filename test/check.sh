#!/bin/sh
# Everything that is tested, one step after the other; the last line sums up.
set -u
cd "$(dirname "$0")/.."
. tools/lib.sh

export MAKEFLAGS="-j$(nproc)"
failed=
passed=0
begin=$(date +%s)

# step NAME COMMAND...
step() {
    name=$1
    shift
    echo "== $name"
    if "$@"; then
        passed=$((passed + 1))
    else
        echo "== $name FAILED"
        failed="$failed $name"
    fi
}

format() {
    clang-format --dry-run -Werror $(find src test bench tools model -name '*.[ch]')
}

regress() {
    mkdir -p build/regress
    tools/with-cluster.sh "$(dirname "$("$PG_CONFIG" --pgxs)")/../test/regress/pg_regress" \
        --inputdir=. --outputdir=build/regress --bindir="$("$PG_CONFIG" --bindir)" \
        --use-existing --dbname=postgres $(ls expected | sed 's/\.out$//')
}

pgtap() {
    tools/with-cluster.sh pg_prove --quiet test/pgtap/*.sql
}

# The server's user may not be able to enter this folder, so it gets what it needs in another.
server() {
    folder=$(mktemp -d "${TMPDIR:-/tmp}/deepseek_ocr_test.XXXXXX")
    mkdir "$folder/demo"
    make -s --no-print-directory -C test checkpoints
    cp -r test/server test/goldens build/checkpoints README.md doc "$folder"
    cp -r demo/pages "$folder/demo"
    chmod -R u+w "$folder"
    if is_root; then chown -R postgres "$folder"; fi
    pgxs=$(dirname "$("$PG_CONFIG" --pgxs)")/../..
    (cd "$folder" && as_server_user env PATH="$("$PG_CONFIG" --bindir):$PATH" \
        PERL5LIB="$pgxs/src/test/perl:$folder/server" PG_REGRESS="$pgxs/src/test/regress/pg_regress" \
        TESTDATADIR="$folder/tmp_check" TESTLOGDIR="$folder/log" \
        prove "$@" server/*.pl)
    status=$?
    if [ $status -eq 0 ]; then
        rm -rf "$folder"
    else
        echo "logs are in $folder"
    fi
    return $status
}

step packages install_packages build test || exit 1
step format format
step build build_and_install COPT=-Werror
step programs make --no-print-directory -s -C bench
step arm64 make -s --no-print-directory -C test arm64
step layers sh test/layers.sh
step evaluate sh test/evaluate.sh
step unit make -s --no-print-directory -C test unit
step fuzz-seeds make -s --no-print-directory -C test fuzz-seeds
step regress regress
step pgtap pgtap
step pages sh test/pages.sh
step server server

seconds=$(($(date +%s) - begin))
if [ -n "$failed" ]; then
    echo "check: FAILED:$failed ($passed steps passed, ${seconds}s)"
    exit 1
fi
echo "check: all $passed steps passed (${seconds}s)"
