#!/usr/bin/env bash
# Every family from end to end: one and two ranks write the same bytes, and the GPTQ checkpoint predicts what the plain one
# with the same rounded weights does. Those that ranks.sh and results.sh go through are left to them.
# MODELS: these of tests/golden instead.
. "$(dirname "$0")/common.sh"
here=$(dirname "$0")
models=${MODELS:-$(awk '{ print $1 }' "$GOLDEN/manifest.txt" | grep -vE '^(llama|smollm|mistral|qwen[23]$|opt)')}

alone() { # alone ARGS...: the program without mpirun, which takes less time than the work here
  "$SHARDQ" "$@" >"$work/stdout" 2>"$work/err" || { cat "$work/err" >&2; fail "$*"; }
}

figures() { # figures FOLDER
  alone eval --model "$1" --tokens "$work/eval" --compute fp32 --threads 1 --json
  sed 's/,"compute".*//' "$work/stdout"
}

# The name that vLLM alone has for layers of a family, and which has to be in the list of what is quantized.
declare -A listed=([gptj]=attn.qkv_proj [stablelm]=mlp.gate_up_proj [glm4]=mlp.up_proj)

check() { # check MODEL
  rm -rf "${work:?}"/*
  tokens "$work/calibration" 6 14 "$(vocabulary "$1")" 1
  tokens "$work/eval" 3 14 "$(vocabulary "$1")" 2
  python3 "$here/widen.py" "$GOLDEN/$1" "$work/$1" # as F32, so that a plain checkpoint holds the rounded weights exactly
  local job=(quantize --model "$work/$1" --tokens "$work/calibration" --compute fp32 --threads 1)
  alone "${job[@]}" --out "$work/one"
  [ -z "${listed[$1]-}" ] || grep -q "\"${listed[$1]}\"" "$work/one/config.json" || fail "$1: ${listed[$1]} is not listed"
  [ "$1" != gpt2 ] || grep -q "one: transformers .* ends with an error" "$work/err" || fail "$1: nothing is said of readers"
  run 2 "${job[@]}" --out "$work/two" || { cat "$work/err" >&2; fail "$1 on two ranks"; }
  cmp "$work/one.store.h5" "$work/two.store.h5" || fail "$1: another store from two ranks"
  same_folder "$work/one" "$work/two"
  alone assemble --store "$work/one.store.h5" --out "$work/plain" --dequantized
  local packed plain
  packed=$(figures "$work/one") plain=$(figures "$work/plain")
  [ -n "$packed" ] && [ "$packed" = "$plain" ] || fail "$1: the checkpoint gives $packed, the rounded weights $plain"
}

n=0
for model in $models; do
  check "$model"
  n=$((n + 1))
done
[ "$n" -gt 0 ] || fail "no model"
