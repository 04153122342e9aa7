#!/usr/bin/env bash
# Small jobs on devices, real ones or those of the stand-in for CUDA, that the sanitizers see as well: the same bytes from 1 and 2
# ranks, with a device each where there are as many; with the stand-in's streams in another order; and after a kill.
. "$(dirname "$0")/common.sh"
export CUDASIM_DEVICES=2 CUDASIM_CHECK=off # of each access the contract tests take care
export OMPI_MCA_btl_vader_backing_directory=$work # what a killed mpirun leaves goes with the rest

need_device
share=(--share-device) # where there may be one device only
is_stand_in && share=()

begin() { # begin MODEL OPTION...: what one rank makes of it
  rm -rf "${work:?}"/*
  tokens "$work/tokens" 4 14 "$(vocabulary "$1")" 1
  tokens "$work/eval" 3 14 "$(vocabulary "$1")" 2
  job=(quantize --model "$GOLDEN/$1" --tokens "$work/tokens" --backend cuda "${share[@]}" --threads 2 --compute fp32 "${@:2}")
  expect 0 1 "${job[@]}" --out "$work/one"
}

same() { # same OUT
  cmp "$work/one.store.h5" "$work/$1.store.h5" || fail "another store: $1"
  same_folder "$work/one" "$work/$1"
}

travel() { # travel TRACE WAY: tokens of experts of both ranks, by NCCL ("an exchange") or the hosts ("shift"), and in no other way
  python3 - "$work/$1" "$2" <<'EOF2'
import json, sys
trace = json.load(open(sys.argv[1]))
for rank, about in enumerate(trace["otherData"]["ranks"]):
    sums = {s["name"] for s in about["sums"] if s["bytes"] > 0} # of short spans, too, but not of NCCL's
    nccl = {e["name"] for e in trace["traceEvents"] if e["ph"] == "X" and e["pid"] == rank + 1 and e["cat"] == "NCCL" and e["args"]["bytes"] > 0}
    found = (sums | nccl) & {"an exchange", "shift"}
    if found != {sys.argv[2]}: sys.exit(f"FAIL: rank {rank}: tokens travel by {found}")
EOF2
}

figures() { # figures RANKS
  expect 0 "$1" eval --model "$work/one" --tokens "$work/eval" --backend cuda "${share[@]}" --threads 2 --compute fp32 --json
  sed 's/,"compute".*//' "$work/stdout"
}

begin llama
CUDASIM_ORDER=1 expect 0 2 "${job[@]}" --out "$work/two"
same two
if is_stand_in; then
  CUDASIM_KILL="kernel quantize:5" expect 137 2 "${job[@]}" --out "$work/resumed"
else
  killed=0
  start_held 2 2 "${job[@]}" --out "$work/resumed"
  kill -KILL "${pids[0]}"
  wait "$job_pid" || killed=$?
  [ $killed -eq 137 ] || { cat "$work/err" >&2; fail "exit code $killed after a kill"; }
fi
CUDASIM_ORDER=2 expect 0 1 "${job[@]}" --out "$work/resumed" --resume
same resumed
figures 1 >"$work/figures.1"
figures 2 >"$work/figures.2"
cmp "$work/figures.1" "$work/figures.2" || fail "eval differs on 2 ranks"
begin qwen2_moe --experts top-up --expert-tokens 20
CUDASIM_ORDER=3 expect 0 2 "${job[@]}" --out "$work/two" --trace "$work/two.json"
same two
if is_stand_in; then
  travel two.json "an exchange"
  CUDASIM_DEVICES=1 expect 0 2 "${job[@]}" --out "$work/shared" --share-device --trace "$work/shared.json"
  same shared
  travel shared.json shift
fi
begin llama --propagation original
CUDASIM_ORDER=1 expect 0 2 "${job[@]}" --out "$work/two"
same two
CUDASIM_ORDER=2 CUDASIM_DEVICES=1 expect 0 2 "${job[@]}" --out "$work/shared" --share-device
same shared
