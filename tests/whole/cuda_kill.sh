#!/usr/bin/env bash
# A rank that is killed with -9 in each stage of a job on devices, those of the stand-in for CUDA, or freezes in the middle of a
# sum by NCCL, or cannot take part in one: every time the job goes on with another number of ranks, and it ends in the bytes of an undisturbed run. Both ways of
# propagation.
. "$(dirname "$0")/common.sh"
export CUDASIM_DEVICES=4 CUDASIM_CHECK=off
export OMPI_MCA_btl_vader_backing_directory=$work # what a killed mpirun leaves goes with the rest
tokens "$work/tokens" 24 24 "$(vocabulary llama)" 7
base=(quantize --model "$GOLDEN/llama" --tokens "$work/tokens" --backend cuda --threads 1 --state-seconds 0)

ranks_of() { pgrep -f "^$SHARDQ quantize.*--out $work/resumed" || true; }

note_start() { kept="$kept $(sed -n 's/.*layers to quantize (\([0-9]*\) in the store).*/\1/p' "$work/err")"; }

was_ended() { # was_ended STATUS WANTED WHEN: and nothing is left running, nothing finished
  [ "$1" -eq "$2" ] || { cat "$work/err"; fail "exit code $1 instead of $2: $3"; }
  for _ in $(seq 100); do [ -z "$(ranks_of)" ] || sleep 0.1; done
  [ -z "$(ranks_of)" ] || fail "ranks of a killed job still run: $3"
  [ ! -e "$work/resumed" ] || fail "the job was done before it was killed: $3"
  note_start
}

# ends STATUS RANKS VICTIM SETTING OPTION...: starts or goes on with the job, in which rank VICTIM has this setting of the stand-in
ends() {
  local status=0
  # shellcheck disable=SC2016
  mpirun -n "$2" bash -c '[ "$OMPI_COMM_WORLD_RANK" -ne "$1" ] || export "$2"; exec "${@:3}"' bash "$3" "$4" \
    "$SHARDQ" "${job[@]}" --out "$work/resumed" --resume "${@:5}" </dev/null >/dev/null 2>"$work/err" || status=$?
  was_ended "$status" "$1" "$4"
}

# killed RANKS VICTIM OPERATION:N: rank VICTIM ends when its device is given its N-th such operation
killed() { ends 137 "$1" "$2" "CUDASIM_KILL=$3"; }

# frozen RANKS VICTIM OPERATION:N: it stops there, and the others end the job
frozen() {
  ends 76 "$1" "$2" "CUDASIM_FREEZE=$3" --timeout 6
  expect_message "waited 6 s for other ranks in vain: a sum over ranks" # and which, if that one ran long enough to give signs
}

# failed RANKS VICTIM KIND:N TEXT: it cannot do that call, of NCCL or for it, and ends the job; TEXT is in its message
failed() {
  ends 1 "$1" "$2" "CUDASIM_FAIL=$3" --timeout 0
  expect_message "[rank $2] $4"
}

killed_assembling() { # killed_assembling RANKS
  local status=0
  start_held .safetensors "$1" "${job[@]}" --out "$work/resumed" --resume
  { kill -9 "${pids[0]}"; wait "$job_pid" || status=$?; } 2>/dev/null
  was_ended "$status" 137 "assembling"
}

# begin MODE: an undisturbed run, and a job that is yet to start
begin() {
  mode=$1 kept=""
  rm -rf "$work/resumed"*
  job=("${base[@]}" --propagation "$mode")
  run 2 "${job[@]}" --out "$work/$mode" || { cat "$work/err"; fail "the undisturbed run"; }
}

end() { # end LAYERS...: numbers of layers in the store with which starts of the job went on, beside those that began anew
  local layers
  run 1 "${job[@]}" --out "$work/resumed" --resume || { cat "$work/err"; fail "the resumed run"; }
  note_start
  cmp "$work/$mode.store.h5" "$work/resumed.store.h5" || fail "$mode: the store differs"
  same_folder "$work/$mode" "$work/resumed"
  echo "$mode: the bytes of an undisturbed run after kills in every stage; layers in the store at each start:$kept"
  for layers in "$@"; do [[ "$kept " == *" $layers "* ]] || fail "$mode: no start went on with $layers layers"; done
}

begin quantized
killed 2 1 "kernel take_rows:1"  # embedding
killed 3 0 "kernel weigh:2"      # forward, in attention
killed 4 2 "kernel fixed_add:2"  # Hessian
killed 2 0 "ncclAllReduce:1"     # its sum over ranks
frozen 3 1 "ncclAllReduce:2"     # its sum over ranks
frozen 2 0 "ncclAllReduce:1"
failed 3 1 nccl:1 "NCCL: joining a communicator: unhandled system error"
failed 2 1 nccl:3 "NCCL: a sum over ranks: unhandled system error"
failed 3 2 nccl:14 "NCCL: a broadcast: unhandled system error" # a factor's column
killed 3 1 "cusolverDnSpotrf:5"  # factor, in the second block: this rank has four of the first's nine columns of tiles
killed 2 1 "kernel quantize:1"   # solve
killed 4 0 "kernel descend:2"    # refinement
killed 1 0 "kernel unload_codes:2"  # rows on their way to the store and to the other ranks
killed 3 2 "kernel dequantize:1" # quantized weights for the rest of the block
killed_assembling 2
end 7 14

export CUDASIM_LOST=seen # as across a network: the others hear of it by NCCL, and let the launcher end them
begin original
killed 3 2 "kernel weigh:10"
killed 2 1 "ncclReduce:3"
failed 3 0 nccl:9 "NCCL: gathering: unhandled system error"
killed 4 3 "cusolverDnSpotrf:4"
killed 2 0 "kernel descend:3"
killed 3 1 "kernel unload_codes:2"
killed_assembling 2
end 14
