#!/usr/bin/env bash
# quality.sh --out FOLDER [OPTION...]: runs quality.py on the demo's model and text, or those that BENCH_MODEL and BENCH_TEXT name.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
need_program
need_model
need_text
exec .venv/bin/python3 "$bench/quality.py" --shardq "$shardq" --model "$model" --text "${texts[@]}" "$@"
