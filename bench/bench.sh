#!/bin/sh
# bench.sh [MODEL...]
#
# Every stage of a page at every batch size, for each model folder; build/bench/NAME.json
# holds the same numbers. Without a model: generated weights of the released size, in
# bf16, 8 and 4 bits, are made in build/bench/models (13 GB) and kept for the next time.
# OPTIONS are further options of bench_model, IMAGE another page.
set -eu
cd "$(dirname "$0")/.."
image=${IMAGE:-demo/pages/letter.png}
models=build/bench/models

make -s --no-print-directory -C bench
if [ $# -eq 0 ]; then
    if [ ! -d $models/full ]; then
        make -s --no-print-directory -C test ../build/plain/make_checkpoint
        mkdir -p $models
        build/plain/make_checkpoint --preset full --out $models/full.new
        mv $models/full.new $models/full
    fi
    for type in q8 q4; do
        [ -d $models/full-$type ] || build/bench/quantize_model $models/full $models/full-$type $type
    done
    set -- $models/full $models/full-q8 $models/full-q4
fi
for model; do
    # shellcheck disable=SC2086 # options are meant to be split
    build/bench/bench_model --mode base --pages 1,4,8,16 \
        --json "build/bench/$(basename "$model").json" ${OPTIONS:-} "$model" "$image"
    echo
done
