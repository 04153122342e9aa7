#!/usr/bin/env bash
# block.sh --out FOLDER [OPTION...]: runs block.py, which takes a block of OPT-175B (or another size) apart by stage.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
need_program
if [ -z "${BENCH_PEAK-}" ]; then
  cmake -B build -DSHARDQ_BENCH=ON >&2
  cmake --build build -j "$jobs" --target shardq sq_peak >&2
  BENCH_PEAK=build/tests/bench/sq_peak
fi
exec .venv/bin/python3 "$bench/block.py" --shardq "$shardq" --peak "$BENCH_PEAK" "$@"
