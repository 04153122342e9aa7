#!/usr/bin/env bash
# scaling.sh --out FOLDER [OPTION...]: runs scaling.py, which measures one job on one and on two processors.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
need_program
need_model
exec .venv/bin/python3 "$bench/scaling.py" --shardq "$shardq" --model "$model" "$@"
