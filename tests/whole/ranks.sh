#!/usr/bin/env bash
# Stores and checkpoints are the same bytes from 1, 2, 3, 4 and 8 ranks with 1 or 2 threads each, for every family and for
# both ways of propagation.
. "$(dirname "$0")/common.sh"
all="1:2 2:1 3:2 4:1 8:1" # ranks:threads
few="2:2 3:1"

check() { # check SETTINGS MODEL OPTION...: each setting against one rank with one thread
  local settings=$1 model=$2 setting ranks threads
  shift 2
  tokens "$work/tokens" 19 24 "$(vocabulary "$model")" 1
  for setting in 1:1 $settings; do
    ranks=${setting%:*} threads=${setting#*:}
    run "$ranks" quantize --model "$GOLDEN/$model" --tokens "$work/tokens" --out "$work/$setting" \
      --store "$work/$setting.h5" --threads "$threads" "$@" || { cat "$work/err"; fail "$model on $setting: $*"; }
    cmp "$work/1:1.h5" "$work/$setting.h5" || fail "$model: another store from $ranks ranks of $threads threads: $*"
    same_folder "$work/1:1" "$work/$setting"
  done
  rm -rf "$work"/[0-9]*
}

check "$all" llama
check "$all" llama --compute fp32 --propagation original
check "$all" llama_ffn172 --group-size 32 --ragged --bits 3 --asymmetric --spread-factors 1
check "$all" opt --bits 8
check "$few" llama_head_dim --lm-head --propagation original --spread-factors 1
check "$few" llama_bias --lm-head --shard-size 16K --dequantized
check "$few" llama3 --order natural
check "$few" mistral --order natural --grid reference --refine 0
check "2:1 3:2 4:1" deepseek_v2
check "2:1 3:1 4:1" deepseek_v3_fp8 --compute fp32 --spread-factors 1
check "$few" qwen2 --compute fp32 --grid absmax
check "$few" qwen3 --bits 2 --group-size -1
check "$few" smollm2 --solver obq --refine 1
check "$few" opt_untied --solver rtn --shards 3
