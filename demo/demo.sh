#!/bin/sh
# From a bare system to text: packages, build, install, and four sample pages
# read in a server that lives as long as this script.
set -eu
cd "$(dirname "$0")/.."
. tools/lib.sh

install_packages build
build_and_install
tools/with-cluster.sh psql -X -q -f demo/demo.sql
