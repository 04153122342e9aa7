#!/usr/bin/env bash
# store.sh --out FOLDER [OPTION...]: builds sq_store_write and runs store.py, which compares writing a store with dd.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
writer=${BENCH_STORE-}
if [ -z "$writer" ]; then
  cmake --preset cpu -DSHARDQ_BENCH=ON >&2
  cmake --build --preset cpu -j "$jobs" --target sq_store_write >&2
  writer=build/tests/bench/sq_store_write
fi
exec .venv/bin/python3 "$bench/store.py" --writer "$writer" "$@"
