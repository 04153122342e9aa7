#!/usr/bin/env bash
# SIGUSR1 and SIGTERM stop a job at a safe point with exit code 75; what must not be resumed is refused; two jobs do not share
# a store; a finished job ends at once.
. "$(dirname "$0")/common.sh"
tokens "$work/tokens" 128 64 "$(vocabulary llama)" 7
job=(quantize --model "$GOLDEN/llama" --tokens "$work/tokens" --threads 1)

expect 0 1 "${job[@]}" --out "$work/whole"

# To one of the ranks, as a person would, or to mpirun, which passes SIGUSR1 on to all.
stop_with() { # stop_with SIGNAL RANKS TO [AT]
  local status=0 to
  rm -rf "$work/out" "$work/out".*
  start_held "${4-1}" "$2" "${job[@]}" --out "$work/out"
  if [ "$3" = rank ]; then to=${pids[0]}; else to=$job_pid; fi
  kill "-$1" "$to"
  [ "$3" = rank ] || sleep 0.2 # mpirun passes it on
  let_go
  wait "$job_pid" || status=$?
  [ "$status" -eq 75 ] || { cat "$work/err"; fail "exit code $status after SIG$1 to the $3 of $2"; }
  grep -q "stopped at a safe point" "$work/err" || fail "a stopped job did not say so"
  [ ! -e "$work/out" ] || fail "a stopped job left a checkpoint"
  run 1 "${job[@]}" --out "$work/out" --resume || { cat "$work/err"; fail "resuming after SIG$1"; }
  cmp "$work/whole.store.h5" "$work/out.store.h5" || fail "the store differs after SIG$1"
  same_folder "$work/whole" "$work/out"
}
stop_with USR1 1 rank
stop_with TERM 2 rank
stop_with USR1 3 mpirun
# while MPI starts
stop_with USR1 1 rank MPI_Init_thread
stop_with TERM 1 rank MPI_Init_thread

# while the checkpoint is written
assembling=(quantize --model "$GOLDEN/llama" --tokens "$work/tokens" --threads 1 --out "$work/assembled" --store "$work/assembled.h5")
expect 0 1 "${assembling[@]}" --no-assemble

stop_assembling() { # stop_assembling RANKS ARGS...
  local status=0
  start_held .safetensors "$@"
  kill -TERM "${pids[0]}"
  let_go
  wait "$job_pid" || status=$?
  [ "$status" -eq 75 ] || { cat "$work/err"; fail "exit code $status after a signal while assembling with $1 ranks"; }
  grep -q "stopped" "$work/err" || fail "a job stopped while assembling did not say so"
  [ ! -e "$work/assembled" ] && [ ! -e "$work/assembled.tmp" ] || fail "a job stopped while assembling left a folder"
}
stop_assembling 2 "${assembling[@]}" --resume
stop_assembling 1 assemble --store "$work/assembled.h5" --out "$work/assembled"
expect 0 2 assemble --store "$work/assembled.h5" --out "$work/assembled"
mv "$work/assembled" "$work/first"
expect 0 1 "${assembling[@]}" --resume
same_folder "$work/first" "$work/assembled"
rm -r "$work/first" "$work/assembled"

# a finished job
expect 0 2 "${job[@]}" --out "$work/out" --resume
grep -q 'nothing to do' "$work/err" || fail "a finished job did not say so"
[ ! -e "$work/out.store.h5.state" ] || fail "a finished job left its state file"
expect 0 2 "${job[@]}" --out "$work/out//" --resume # the same folder, and the same store beside it
grep -q 'nothing to do' "$work/err" || fail "a finished job did not find its store"
[ ! -e "$work/out/.store.h5" ] || fail "a store in the folder that is replaced as a whole"
expect 2 2 "${job[@]}" --out "$work/out"
expect_message "--resume"

# what changed is named
rm -rf "$work/out"
expect 2 2 "${job[@]}" --out "$work/out" --resume --bits 3
expect_message "bits"
tokens "$work/other" 128 64 "$(vocabulary llama)" 8
expect 2 1 quantize --model "$GOLDEN/llama" --tokens "$work/other" --out "$work/out" --resume
expect_message "tokens"
expect 2 1 "${job[@]}" --out "$work/out"
expect_message "exists"

# two jobs on one store
exec 9>"$work/out.store.h5.lock"
flock -n 9 || fail "the lock of a finished job is held"
expect 1 2 "${job[@]}" --out "$work/out" --resume
expect_message "lock"
exec 9>&-
