#!/usr/bin/env bash
# The program on devices, those of the stand-in for CUDA: the same store, checkpoint, perplexity and layer errors from 1, 2, 3
# and 4 ranks with a device each; how far its codes are from the CPU's; what is said where devices are missing or too small.
. "$(dirname "$0")/cuda_common.sh"
export CUDASIM_DEVICES=4

check "2 3 4" smollm2
close_to_cpu 2 3 4
check "2" llama_bias --asymmetric --propagation original --lm-head
close_to_cpu
check "3" qwen3 --order natural --grid reference --refine 0
close_to_cpu
check "4" qwen2_moe --experts top-up --expert-tokens 20
close_to_cpu 3
CUDASIM_DEVICES=6 check "6" mixtral # of four experts, two with a team of two ranks
close_to_cpu
check "3" deepseek_v3 --asymmetric --propagation original
close_to_cpu

# --- activations that do not fit the devices: on the host, and the same bytes; refused where even that does not fit ---

tight() { # tight MEMORY MODEL SAMPLES LENGTH OPTION...: on 1, 2 and 3 ranks
  local ranks
  prepare "$2" --compute fp32 "${@:5}"
  tokens "$work/tokens" "$3" "$4" "$(vocabulary "$2")" 1
  rm -r "$work/one"*
  must 1 "${job[@]}" "${options[@]}" --backend cuda --out "$work/one"
  for ranks in 1 2 3; do
    same_checkpoint "$ranks" --memory "$1"
    grep -q "per rank, activations on the host$" "$work/err" || { cat "$work/err"; fail "$2: the activations fit $ranks devices"; }
  done
}

tight 1M smollm2 64 24
tight 1300K qwen2_moe 96 14 --experts top-up --expert-tokens 20

# --- eval and verify likewise, on devices that are too small for them, without a word of the user's ---

on_host() { # on_host: what the last command said
  grep -q "per rank, activations on the host$" "$work/err" || { cat "$work/err"; fail "the activations were not on the host: $*"; }
}

small() { # small MEMORY OPTION...: eval on devices of so many bytes
  local ranks wanted
  cp "$work/tokens" "$work/eval"
  wanted=$(figures 1 --compute fp32 "${@:2}")
  for ranks in 1 3; do
    [ "$(CUDASIM_MEMORY=$1 figures "$ranks" --compute fp32 "${@:2}")" = "$wanted" ] || fail "eval differs on $ranks small devices"
    on_host "${@:2}"
  done
}

small 2800000
small 2800000 --against "$GOLDEN/qwen2_moe"
CUDASIM_MEMORY=2150000 expect 2 2 eval --model "$work/one" --tokens "$work/eval" --threads 1 --compute fp32
expect_message "a rank needs "
grep -q 'activations 0 B (already on the host), .*more ranks, fewer samples or a larger --memory would fit' "$work/err" || fail "no figures"
verify=(verify --model "$GOLDEN/qwen2_moe" --checkpoint "$work/one" --tokens "$work/tokens" --backend cuda --threads 1 --compute fp32 --json)
must 1 "${verify[@]}"
cp "$work/stdout" "$work/errors"
for ranks in 1 3; do
  CUDASIM_MEMORY=3200000 must "$ranks" "${verify[@]}"
  on_host verify
  cmp "$work/errors" "$work/stdout" || fail "verify differs on $ranks small devices"
done
CUDASIM_MEMORY=2300000 expect 2 2 "${verify[@]}"
expect_message "a rank needs "

# --- two devices measured, and a plan for more of them ---

CUDASIM_CHECK=on must 2 bench --backend cuda --threads 1 --out "$work/machine.yaml"
for figure in bf16_product attention factor descent copy link host_link; do
  grep -q "^$figure: \[[1-9]" "$work/machine.yaml" || fail "bench does not measure $figure: $(cat "$work/machine.yaml")"
done
"$SHARDQ" plan --model "$GOLDEN/smollm2" --samples 16 --length 14 --machine "$work/machine.yaml" --ranks 1,2,3 >"$work/plan" || fail "plan"
grep -q "^device memory of a rank" "$work/plan" || fail "the plan is for no device"

# --- products of bf16; layer errors again from the files ---

check_bf16 4 3

# --- too few devices, none, one that is too small, a store that a device has begun ---

CUDASIM_DEVICES=2 expect 2 3 "${job[@]}" --backend cuda --out "$work/out"
expect_message "2 ranks of a node have one device together: start one rank per device, or allow it with --share-device"
see() { # see FIRST STATUS: two ranks, each of which sees one device; that of the second has this number
  local status=0
  # shellcheck disable=SC2016
  CUDASIM_DEVICES=1 mpirun -n 2 bash -c '[ "$OMPI_COMM_WORLD_RANK" -eq 0 ] || export CUDASIM_FIRST_DEVICE=$1; exec "${@:2}"' bash "$1" \
    "$SHARDQ" "${job[@]}" "${options[@]}" --backend cuda --out "$work/seen" </dev/null >/dev/null 2>"$work/err" || status=$?
  [ $status -eq "$2" ] || { cat "$work/err" >&2; fail "exit code $status instead of $2 where each rank sees one device"; }
}
see 0 2
expect_message "2 ranks of a node have one device together"
see 3 0
cmp "$work/one.store.h5" "$work/seen.store.h5" || fail "another store where each rank sees a device of its own"
rm -r "$work/seen"*
CUDASIM_DEVICES=0 expect 2 2 "${job[@]}" --backend cuda --out "$work/out"
expect_message "--backend cuda: no CUDA-capable device is detected"
CUDASIM_DEVICES=0 expect 0 2 "${job[@]}" "${options[@]}" --out "$work/none"
[ "$(grep -c 'no device, using cpu (no CUDA-capable device is detected)' "$work/err")" -eq 1 ] || { cat "$work/err"; fail "nothing is said of the CPU"; }
must 1 "${job[@]}" "${options[@]}" --backend cpu --out "$work/cpu"
cmp "$work/cpu/model.safetensors" "$work/none/model.safetensors" || fail "the CPU chosen and the CPU asked for differ"
CUDASIM_MEMORY=2400000 expect 2 2 "${job[@]}" "${options[@]}" --out "$work/out"
expect_message "a rank needs "
grep -q 'but may take [0-9.]* KiB: weights [0-9.]* .*hessian [0-9.]* ' "$work/err" || { cat "$work/err"; fail "no figures"; }
CUDASIM_MEMORY=1500000 expect 1 1 "${job[@]}" "${options[@]}" --out "$work/out"
expect_message "CUDA: memory for operations: out of memory"
rm -r "$work/one"
expect 2 1 "${job[@]}" "${options[@]}" --backend cpu --out "$work/one" --resume
expect_message "backend: store has cuda sm_90x4, this run has cpu" # and compute where the processor has no bf16
expect_message "one.store.h5 belongs to another run: "
[ ! -e "$work/out" ] && [ ! -e "$work/out.store.h5" ] || fail "a job that was refused left something"
