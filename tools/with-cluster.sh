#!/bin/sh
# with-cluster.sh COMMAND [ARGUMENT...]
#
# Runs the command beside a PostgreSQL server of its own: a new cluster in a
# temporary folder, reachable through a Unix socket there and nowhere else,
# gone when the command ends. PGHOST, PGUSER and PGDATABASE point to it.
# CLUSTER_OPTIONS are further options for the server.
set -eu
. "$(dirname "$0")/lib.sh"

bin=$("$PG_CONFIG" --bindir)
folder=$(mktemp -d "${TMPDIR:-/tmp}/deepseek_ocr.XXXXXX")
chmod 755 "$folder"
if is_root; then chown postgres "$folder"; fi
cd "$folder" # a folder that the server's user may enter

# shellcheck disable=SC2317 # called by trap
stop() {
    as_server_user "$bin/pg_ctl" -D "$folder/data" -m immediate -w stop >/dev/null 2>&1 || true
    cd /
    rm -rf "$folder"
}
trap stop EXIT
trap 'exit 1' HUP INT TERM

as_server_user "$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C --no-sync \
    >"$folder/initdb.log" 2>&1 || { cat "$folder/initdb.log" >&2; exit 1; }
as_server_user "$bin/pg_ctl" -D "$folder/data" -l "$folder/server.log" -w start \
    -o "-c listen_addresses='' -c unix_socket_directories='$folder' -c fsync=off ${CLUSTER_OPTIONS:-}" \
    >/dev/null || { cat "$folder/server.log" >&2; exit 1; }

cd "$OLDPWD"
export PGHOST="$folder" PGPORT=5432 PGUSER=postgres PGDATABASE=postgres PATH="$bin:$PATH"
unset PGHOSTADDR PGPASSWORD PGSERVICE PGOPTIONS 2>/dev/null || true
"$@"
