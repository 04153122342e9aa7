#!/usr/bin/env bash
# Every family from end to end: one and two ranks write the same bytes, and the GPTQ checkpoint predicts what the plain one
# with the same rounded weights does. Those that ranks.sh and results.sh go through are left to them.
# MODELS: these of tests/golden instead.
. "$(dirname "$0")/common.sh"
here=$(dirname "$0")
models=${MODELS:-$(awk '{ print $1 }' "$GOLDEN/manifest.txt" | grep -vE '^(llama|smollm|mistral|qwen[23]$|opt)|_(fp8|mxfp4)$')}

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

# The layer for the token after the next: copied in a type without scales, and named as not quantized.
check_next_token() {
  rm -rf "${work:?}"/*
  tokens "$work/calibration" 6 14 "$(vocabulary deepseek_v3_fp8)" 1
  alone quantize --model "$GOLDEN/deepseek_v3_fp8" --tokens "$work/calibration" --out "$work/out"
  local tensor
  for tensor in eh_proj enorm embed_tokens shared_head.head self_attn.kv_b_proj mlp.gate mlp.experts.11.down_proj; do
    grep -qaF "\"model.layers.2.$tensor.weight\":{\"dtype\":\"BF16\"" "$work/out/model.safetensors" ||
      fail "no model.layers.2.$tensor.weight as it was"
  done
  grep -qaF 'scale_inv' "$work/out/model.safetensors" && fail "scales without 8-bit weights"
  grep -qF 'layers\\.2\\.self_attn\\.kv_b_proj' "$work/out/quantize_config.json" || fail "layer 2 is not named as kept"
  # what is quantized is said by endings of names, as all blocks of the model agree
  grep -q '"mlp.experts.11.down_proj"' "$work/out/config.json" || fail "the experts are not listed"
  ! grep -q '"model.layers.1.mlp.experts.11.down_proj"' "$work/out/config.json" || fail "layers are listed one by one"
}

n=0
for model in $models; do
  check "$model"
  n=$((n + 1))
done
[ "$n" -gt 0 ] || fail "no model"
[ -n "${MODELS:-}" ] || check_next_token
