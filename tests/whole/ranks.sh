#!/usr/bin/env bash
# Stores and checkpoints are the same bytes from 1, 2, 3, 4 and 8 ranks with 1 or 2 threads each, for every family and for
# both ways of propagation.
. "$(dirname "$0")/common.sh"

check() { # check NAME MODEL OPTION...: all rank counts against one rank with one thread
  local name=$1 model=$2 setting ranks threads
  shift 2
  tokens "$work/$name.tokens" 19 24 "$(vocabulary "$model")" 1
  for setting in 1:1 1:2 2:1 3:2 4:1 8:1; do
    ranks=${setting%:*} threads=${setting#*:}
    run "$ranks" quantize --model "$GOLDEN/$model" --tokens "$work/$name.tokens" --out "$work/$name.$setting" \
      --store "$work/$name.$setting.h5" --threads "$threads" "$@" || { cat "$work/err"; fail "$name on $setting"; }
    cmp "$work/$name.1:1.h5" "$work/$name.$setting.h5" || fail "$name: the store of $ranks ranks differs"
    same_folder "$work/$name.1:1" "$work/$name.$setting"
  done
  rm -rf "$work/$name".*
}

check llama llama --compute fp32
check llama-bf16 llama
check ffn172 llama_ffn172 --group-size 32 --ragged --bits 3 --asymmetric
check mistral mistral --order natural --grid reference --refine 0
check qwen3 qwen3 --bits 2 --group-size -1
check opt opt --bits 8
check original llama --propagation original
check lm-head llama_head_dim --lm-head --propagation original
