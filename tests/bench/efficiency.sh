#!/usr/bin/env bash
# efficiency.sh --out FOLDER [OPTION...] [-- OPTION OF QUANTIZE...]: builds sq_peak beside the program and runs efficiency.py.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
need_program
need_model
need_text
if [ -z "${BENCH_PEAK-}" ]; then
  cmake --preset cpu -DSHARDQ_BENCH=ON >&2
  cmake --build --preset cpu -j "$jobs" --target shardq sq_peak >&2
  BENCH_PEAK=build/tests/bench/sq_peak
fi
exec .venv/bin/python3 "$bench/efficiency.py" --shardq "$shardq" --peak "$BENCH_PEAK" --model "$model" \
  --text "${texts[@]}" "$@"
