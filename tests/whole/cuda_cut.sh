#!/usr/bin/env bash
# What is wrong with weights that eval has on their way to devices, those of the stand-in for CUDA, ends the job on any number of
# ranks, and it is said what it was: the file, where it is cut short meanwhile; the tensor and the element that is no number.
. "$(dirname "$0")/common.sh"
export CUDASIM_DEVICES=3 CUDASIM_CHECK=off
model=$work/model file=$work/model/model.safetensors
tokens "$work/tokens" 6 24 "$(vocabulary smollm2)" 7
job=(eval --model "$model" --tokens "$work/tokens" --backend cuda --threads 1 --compute fp32)

begin() {
  rm -rf "$model"
  cp -r "$GOLDEN/smollm2" "$model"
}

wait_until_held() { # sets held: the process
  until held=$(ps -o pid=,stat= -p "$(pgrep -d , -f "^$SHARDQ ${job[*]}" || echo 1)" | awk '$2 ~ /^T/ { print $1 }') && [ -n "$held" ]; do
    kill -0 "$job_pid" 2>/dev/null || { cat "$work/err"; fail "the job did not come to the point where it is held"; }
    sleep 0.02
  done
}

# cut RANKS VICTIM: in the first block's attention of rank VICTIM. The last weights of the block, those of the next one and the head are
# still to be read.
cut() {
  local status=0
  begin
  # shellcheck disable=SC2016
  timeout 60 mpirun -n "$1" bash -c '[ "$OMPI_COMM_WORLD_RANK" -ne "$1" ] || export CUDASIM_HOLD="kernel weigh:1"; exec "${@:2}"' \
    bash "$2" "$SHARDQ" "${job[@]}" </dev/null >/dev/null 2>"$work/err" &
  job_pid=$!
  wait_until_held
  truncate -s 4096 "$file"
  kill -CONT "$held"
  wait "$job_pid" || status=$?
  [ "$status" -eq 1 ] || { cat "$work/err"; fail "exit code $status instead of 1: cut on $1 ranks"; }
  grep -q "^shardq: error: .*cannot read $file: its data are gone" "$work/err" || { cat "$work/err"; fail "no message"; }
  ! grep '^shardq: error: ' "$work/err" | grep -v "its data are gone" || fail "other messages: cut on $1 ranks"
}

no_number() { # no_number RANKS
  begin
  poke "$file" model.layers.0.mlp.down_proj.weight '\0000\0000\0300\0177'
  expect 1 "$1" "${job[@]}"
  expect_message "$file: tensor model.layers.0.mlp.down_proj.weight: value nan in row 0, column 0"
}

cut 1 0
cut 2 0
cut 3 2
for ranks in 1 2 3; do no_number $ranks; done
