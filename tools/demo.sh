#!/usr/bin/env bash
# demo.sh: what `bootstrap demo` runs after the build: SmolLM2-135M to 4 bits, by plain rounding and by GPTQ, with two ranks.
# Fetched things stay in .cache/, results are in demo/ (made anew).
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
. tools/common.sh

ranks=2
threads=$(((jobs + ranks - 1) / ranks))
model=$demo_model text=$demo_text

shardq() {
  set -- "$@" --threads "$threads"
  printf '$ mpirun -n %s build/shardq %s\n' "$ranks" "$*" >&2
  mpirun -n "$ranks" build/shardq "$@" </dev/null
}

quantize() { # quantize NAME [OPTION...]
  local name=$1
  shift
  say "quantizing to 4 bits: $name"
  shardq quantize --model "$model" --tokens demo/calibration.h5 --bits 4 --out "demo/$name" --trace "demo/$name.run.json" "$@"
}

evaluate() { # evaluate NAME FOLDER
  say "perplexity of $1"
  shardq eval --model "$2" --tokens demo/evaluation.h5 --json >"demo/$1.json"
}

fetch_model
fetch_text
rm -rf demo
mkdir demo
say "tokenizing"
build/shardq tokenize --model "$model" --text "$text/calibration.txt" --samples 32 --length 512 --out demo/calibration.h5
build/shardq tokenize --model "$model" --text "$text/evaluation.txt" --windows --samples 32 --length 512 --out demo/evaluation.h5
quantize rounding --solver rtn
quantize gptq
evaluate original "$model"
evaluate rounding demo/rounding
evaluate gptq demo/gptq
.venv/bin/python3 -P tools/demo_table.py "original=$model" rounding=demo/rounding gptq=demo/gptq
build/shardq report demo/gptq demo/gptq.run.json demo/gptq.json demo/original.json \
  demo/rounding demo/rounding.run.json demo/rounding.json --out demo/report.html
say "what happened, as a page to open in a browser: $PWD/demo/report.html"
