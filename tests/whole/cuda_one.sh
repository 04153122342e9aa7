#!/usr/bin/env bash
# The program on one device, a real one or that of the stand-in for CUDA: the same store, checkpoint, perplexity and layer errors
# from one rank and from several that share it, which do without NCCL; how far its codes are from the CPU's.
. "$(dirname "$0")/cuda_common.sh"
export CUDASIM_DEVICES=1
share=(--share-device)
need_device

check "2 3" smollm2
close_to_cpu 2 3
check "2" llama_bias --asymmetric --propagation original --lm-head
close_to_cpu
check "3" qwen2_moe --experts top-up --expert-tokens 20
close_to_cpu 2

# --- products of bf16; layer errors again from the files; a store that a device has begun ---

check_bf16 2 2
rm -r "$work/one"
expect 2 1 "${job[@]}" "${options[@]}" --backend cpu --out "$work/one" --resume
expect_message "one.store.h5 belongs to another run: "
expect_message "backend: store has cuda sm_"
