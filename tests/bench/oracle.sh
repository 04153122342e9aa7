#!/usr/bin/env bash
# oracle.sh --out FOLDER [OPTION...]: runs oracle.py on the demo's model and text, or those that BENCH_MODEL and BENCH_TEXT name.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
need_program
need_model
need_text
need_gptqmodel
exec .venv/bin/python3 "$bench/oracle.py" --shardq "$shardq" --model "$model" --text "${texts[@]}" \
  --python "$BENCH_GPTQMODEL_PYTHON" "$@"
