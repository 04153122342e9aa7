#!/usr/bin/env bash
# A program with the CUDA backend where no device is to be seen, with a driver or without: it says so and takes the CPU, or is refused.
. "$(dirname "$0")/common.sh"
export CUDA_VISIBLE_DEVICES=
tokens "$work/tokens" 4 14 "$(vocabulary llama)" 1
job=(quantize --model "$GOLDEN/llama" --tokens "$work/tokens" --threads 1)
expect 0 2 "${job[@]}" --out "$work/auto"
[ "$(grep -c 'no device, using cpu (.*)$' "$work/err")" -eq 1 ] || { cat "$work/err"; fail "nothing is said of the CPU"; }
expect 0 2 "${job[@]}" --backend cpu --out "$work/cpu"
same_folder "$work/auto" "$work/cpu"
expect 2 2 "${job[@]}" --backend cuda --out "$work/cuda"
expect_message "--backend cuda: "
[ ! -e "$work/cuda" ] && [ ! -e "$work/cuda.store.h5" ] || fail "a job that was refused left something"
