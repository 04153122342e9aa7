#!/usr/bin/env bash
# peers.sh --out FOLDER [OPTION...]: runs peers.py with environments that have the peers. README.md has the details.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/common.sh"
need_program
need_model
need_text

need_gptqmodel
if [ -z "${BENCH_LLMCOMPRESSOR_PYTHON-}" ]; then
  python_environment .cache/bench-llmcompressor "$bench/requirements-llmcompressor.txt"
  BENCH_LLMCOMPRESSOR_PYTHON=$PWD/.cache/bench-llmcompressor/bin/python3
fi
export BENCH_GPTQMODEL_PYTHON BENCH_LLMCOMPRESSOR_PYTHON
exec .venv/bin/python3 "$bench/peers.py" --shardq "$shardq" --model "$model" --text "${texts[@]}" "$@"
