#!/usr/bin/env bash
# plan.sh --out FOLDER [OPTION...]: runs plan.py, which compares the plan of three models with runs of them.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
need_program
need_model
exec .venv/bin/python3 "$bench/plan.py" --shardq "$shardq" --model "$model" "$@"
