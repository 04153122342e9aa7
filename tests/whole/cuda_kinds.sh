#!/usr/bin/env bash
# Devices of several kinds, those of the stand-in for CUDA: only those for which there are kernels are used; ranks whose bits would
# differ, and a resume on another kind, are refused.
. "$(dirname "$0")/common.sh"
export CUDASIM_DEVICES=2 CUDASIM_CHECK=off
tokens "$work/tokens" 4 14 "$(vocabulary llama)" 1
job=(quantize --model "$GOLDEN/llama" --tokens "$work/tokens" --threads 1 --compute fp32)

says() { # says COUNT TEXT: so many lines end with it
  [ "$(grep -cF -- "$2" "$work/err")" -eq "$1" ] || { cat "$work/err" >&2; fail "not $1 times: $2"; }
}

# --- there are kernels for none of them, and for one ---

old="device 0 (a stand-in, sm_70), device 1 (a stand-in, sm_75): built for sm_80 and later"
CUDASIM_KINDS=70x80,75x40 expect 0 2 "${job[@]}" --out "$work/auto"
says 1 "no device, using cpu ($old)"
expect 0 2 "${job[@]}" --backend cpu --out "$work/cpu"
same_folder "$work/auto" "$work/cpu"
CUDASIM_KINDS=70x80,75x40 expect 2 2 "${job[@]}" --backend cuda --out "$work/refused"
expect_message "--backend cuda: $old"
says 0 "not used"
expect 0 1 "${job[@]}" --backend cuda --out "$work/one"
says 0 "not used"
CUDASIM_KINDS=75x40,90x4 expect 0 1 "${job[@]}" --out "$work/second"
says 1 "not used: device 0 (a stand-in, sm_75): built for sm_80 and later"
says 1 " on sm_90x4; "
cmp "$work/one.store.h5" "$work/second.store.h5" || fail "another store from the second device"
CUDASIM_KINDS=75x40,90x4 expect 2 2 "${job[@]}" --backend cuda --out "$work/refused"
expect_message "2 ranks of a node have one device together"

# --- of one architecture, but not with as many multiprocessors; of another ---

for kind in 90x2 80x4; do
  CUDASIM_KINDS=90x4,$kind expect 2 2 "${job[@]}" --backend cuda --out "$work/refused"
  expect_message "rank 0 computes with cuda sm_90x4, "
  expect_message "rank 1 with cuda sm_$kind, "
  rm -rf "$work/one"
  CUDASIM_KINDS=$kind expect 2 2 "${job[@]}" --backend cuda --out "$work/one" --resume
  expect_message "backend: store has cuda sm_90x4, this run has cuda sm_$kind"
done
expect 0 2 "${job[@]}" --backend cuda --out "$work/one" --resume
same_folder "$work/one" "$work/second"

# --- the environment would have cuBLAS compute in another way ---

for name in NVIDIA_TF32_OVERRIDE CUBLAS_EMULATE_SINGLE_PRECISION CUBLAS_EMULATE_DOUBLE_PRECISION; do
  for backend in auto cuda; do
    (export "$name=1" && expect 2 2 "${job[@]}" --backend $backend --out "$work/refused")
    expect_message "$name=1 in the environment changes the arithmetic of cuBLAS: unset it, or give it 0"
  done
  (export "$name=0" && expect 0 1 "${job[@]}" --backend cuda --out "$work/again")
  cmp "$work/one.store.h5" "$work/again.store.h5" || fail "another store with $name=0"
  (export "$name=1" && expect 0 1 "${job[@]}" --backend cpu --out "$work/host")
  rm -rf "$work/again"* "$work/host"*
done
[ ! -e "$work/refused" ] && [ ! -e "$work/refused.store.h5" ] || fail "a job that was refused left something"
