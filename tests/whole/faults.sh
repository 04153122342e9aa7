#!/usr/bin/env bash
# The table of faults: for each what the user sees, what is lost, and that the job then ends in the bytes of an undisturbed
# run. Arguments: only these of them. Others have scripts of their own: disk_full.sh, stop.sh, link.sh, ../slurm/jobs.sh.
. "$(dirname "$0")/common.sh"
: "${CLOCK_JUMPS:?}" "${STALE_MOUNT:?}"
tokens "$work/tokens" 512 64 "$(vocabulary llama)" 7
model=$work/model
cp -r "$GOLDEN/llama" "$model"
ranks=3
job=(quantize --model "$model" --tokens "$work/tokens" --threads 1 --state-seconds 0)
store=$work/out.store.h5
# what a killed mpirun leaves goes with the rest
export OMPI_MCA_btl_vader_backing_directory=$work OMPI_MCA_orte_tmpdir_base=$work

run $ranks "${job[@]}" --out "$work/whole" || { cat "$work/err"; fail "the undisturbed run"; }

# --- a job that is hit in the middle ---

ranks_of() { pgrep -f "^$SHARDQ quantize.*--out $work/out( |\$)" || true; }

# begin OPTION...: starts the job and holds it in its second block: the first has flushed its layers, the state and its header.
begin() { start_held 4 $ranks "${job[@]}" --out "$work/out" "$@"; }

# end_within SECONDS: of the job and of all its ranks; sets status and n_reported, the layers of the block before.
end_within() {
  local end=$((SECONDS + $1))
  while [ -n "$(ranks_of)" ] || kill -0 "$job_pid" 2>/dev/null; do
    [ $SECONDS -lt $end ] || { cat "$work/err"; kill -9 "$job_pid" $(ranks_of) || true; fail "no end within $1 s"; }
    sleep 0.05
  done
  status=0
  { wait "$job_pid" || status=$?; } 2>/dev/null
  n_reported=$(grep -c '^block   1/2 .*ratio' "$work/err" || true)
  [ ! -e "$work/out" ] || fail "the job was done before it was hit"
}

sees() { # sees TEXT
  grep -qF -- "$1" "$work/err" || { cat "$work/err"; fail "no '$1'"; }
}

# goes_on LAYERS: resumes with another number of ranks; at least so many layers need not be done again.
goes_on() {
  local kept
  run 2 "${job[@]}" --out "$work/out" --resume || { cat "$work/err"; fail "resuming"; }
  kept=$(sed -n 's/.*layers to quantize (\([0-9]*\) in the store).*/\1/p' "$work/err")
  [ "$kept" -ge "$1" ] || fail "$kept layers were kept instead of $1"
  cmp "$work/whole.store.h5" "$store" || fail "the store differs"
  same_folder "$work/whole" "$work/out"
}

# --- faults that hit a running job; at most the block in work is lost ---

killed() { # killed NUMBER...: these ranks, all at once
  local victims=() number
  begin
  for number in "$@"; do victims+=("${pids[number]}"); done
  kill -9 "${victims[@]}"
  let_go
  end_within 30
  [ "$status" -eq 137 ] || { cat "$work/err"; fail "exit code $status instead of 137"; }
  sees "exited on signal 9 (Killed)"
  goes_on "$n_reported"
}

kill_last_rank() { killed 2; }
kill_first_rank() { killed 0; }
kill_all_ranks() { killed 0 1 2; }

kill_mpirun() {
  begin
  { kill -9 "$job_pid"; } 2>/dev/null
  let_go
  end_within 30
  goes_on "$n_reported"
}

# Whoever is left says it after the time that was set, and takes the frozen one along.
frozen() { # frozen NUMBER
  begin --timeout 2
  kill -STOP "${pids[$1]}"
  [ "$1" -eq 0 ] || let_go
  end_within 20
  [ "$status" -eq 76 ] || { cat "$work/err"; fail "exit code $status instead of 76"; }
  sees "waited 2 s for other ranks in vain"
  sees "; rank $1 of $(uname -n) gives no sign of life"
  goes_on "$n_reported"
}

freeze_first_rank() { frozen 0; }
freeze_last_rank() { frozen 2; }

# Two that wait in vain, whom mpirun does not end for once: both do so, and one of them speaks.
one_speaks() {
  local end
  OMPI_MCA_orte_abort_on_non_zero_status=0 begin --timeout 2
  kill -STOP "${pids[2]}"
  let_go
  end=$((SECONDS + 30))
  while kill -0 "${pids[0]}" 2>/dev/null || kill -0 "${pids[1]}" 2>/dev/null; do
    [ $SECONDS -lt $end ] || { cat "$work/err"; kill -9 "$job_pid" "${pids[@]}" || true; fail "a rank still waits"; }
    sleep 0.05
  done
  { kill -9 "${pids[2]}" "$job_pid"; } 2>/dev/null
  end_within 20
  expect_message "waited 2 s for other ranks in vain"
  goes_on "$n_reported"
}

# All of a job that is suspended for longer than the timeout, and then goes on.
suspend_job() {
  begin --timeout 2
  kill -STOP "${pids[@]}"
  sleep 3
  kill -CONT "${pids[@]}"
  { wait "$job_pid" || { cat "$work/err"; fail "a suspended job did not go on"; }; } 2>/dev/null
  same_folder "$work/whole" "$work/out"
}

two_jobs() {
  begin
  kill -STOP "${pids[@]}"
  mv "$work/err" "$work/first.err"
  expect 1 2 "${job[@]}" --out "$work/other" --store "$store" --resume
  expect_message "$store is in use by another job"
  expect 1 2 "${job[@]}" --store "$store" --no-assemble --resume
  expect_message "$store is in use by another job"
  kill -CONT "${pids[@]}"
  { wait "$job_pid" || { cat "$work/first.err"; fail "the first of two jobs"; }; } 2>/dev/null
  same_folder "$work/whole" "$work/out"
}

# Two jobs that write one OUT, each from a store of its own or both from one. The second touches nothing of the first's; what a
# job that was killed has left is in nobody's way.
one_out() {
  local source
  cp "$work/whole.store.h5" "$store"
  for source in whole.store.h5 out.store.h5; do
    start_held .safetensors 2 assemble --store "$work/whole.store.h5" --out "$work/out"
    kill -STOP "${pids[@]}"
    mv "$work/err" "$work/first.err"
    expect 1 3 assemble --store "$work/$source" --out "$work/out/"
    expect_message "$work/out is in use by another job, which holds the lock $work/out.tmp.lock"
    kill -CONT "${pids[@]}"
    { wait "$job_pid" || { cat "$work/first.err"; fail "the first of two jobs"; }; } 2>/dev/null
    same_folder "$work/whole" "$work/out"
    rm -r "$work/out"
  done
  # before the first layer, and whatever its store is; one that is done, or was refused, leaves no lock
  rm "$store"
  begin
  kill -STOP "${pids[@]}"
  mv "$work/err" "$work/first.err"
  expect 1 2 "${job[@]}" --out "$work/out/" --store "$work/other.store.h5"
  expect_message "$work/out is in use by another job, which holds the lock $work/out.tmp.lock"
  [ ! -e "$work/other.store.h5" ] || fail "the refused job made a store"
  expect 1 1 assemble --store "$work/whole.store.h5" --out "$work/out"
  expect_message "$work/out is in use by another job"
  kill -CONT "${pids[@]}"
  { wait "$job_pid" || { cat "$work/first.err"; fail "the first of two jobs"; }; } 2>/dev/null
  same_folder "$work/whole" "$work/out"
  [ ! -e "$work/out.tmp.lock" ] || fail "the lock is left"
  expect 0 2 "${job[@]}" --out "$work/out" --resume
  [ ! -e "$work/out.tmp.lock" ] || fail "the lock of a job with nothing to do is left"
  expect 2 2 "${job[@]}" --out "$work/out"
  [ ! -e "$work/out.tmp.lock" ] || fail "the lock of a job that was refused is left"
  rm -r "$work/out"
  start_held .safetensors 2 assemble --store "$store" --out "$work/out"
  kill -9 "${pids[@]}"
  { wait "$job_pid" || true; } 2>/dev/null
  [ -e "$work/out.tmp" ] && [ -e "$work/out.tmp.lock" ] || fail "the killed job left nothing"
  expect 0 3 assemble --store "$store" --out "$work/out"
  same_folder "$work/whole" "$work/out"
  [ "$(cd "$work" && echo out*)" = "out out.store.h5" ] || fail "left behind: $(cd "$work" && echo out*)"
}

# --- what happens to files between two runs ---

stopped() { # a store that is not complete
  begin
  kill -USR1 "${pids[0]}"
  let_go
  end_within 30
  [ "$status" -eq 75 ] || { cat "$work/err"; fail "exit code $status instead of 75"; }
}

flip_a_bit() { # flip_a_bit FILE OFFSET
  local byte
  byte=$(od -An -t u1 -j "$2" -N 1 "$1")
  printf '%b' "\\x$(printf %x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# In a layer of a store that is complete, but whose checkpoint is not there: that layer and those with its input are redone.
bit_flipped() {
  cp "$work/whole.store.h5" "$store"
  flip_a_bit "$store" $(($(stat -c %s "$store") * 3 / 4))
  goes_on 10
  sees "is damaged (by its checksum"
  [ "$(grep -c '^block .*ratio' "$work/err")" -le 3 ] || { cat "$work/err"; fail "more than that was done again"; }
}

# In the first of the samples that a resume reads: they are computed again.
state_flipped() {
  stopped
  /usr/bin/env python3 -c 'import sys; d = bytearray(open(sys.argv[1], "rb").read()); d[len(d) // 4] ^= 1; open(sys.argv[1], "wb").write(d)' "$store.state"
  goes_on "$n_reported"
  sees "what was saved is of no use"
}

store_truncated() {
  stopped
  truncate -s -1000 "$store"
  cp "$store" "$work/truncated"
  expect 1 2 "${job[@]}" --out "$work/out" --resume
  expect_message "$store"
  cmp "$store" "$work/truncated" || fail "the store was touched"
  rm "$store"
  goes_on 0
}

model_replaced() {
  local file=$model/model-00001-of-00002.safetensors
  [ -e "$file" ] || file=$(ls "$model"/*.safetensors | head -n 1)
  stopped
  flip_a_bit "$file" $(($(stat -c %s "$file") - 2))
  expect 2 2 "${job[@]}" --out "$work/out" --resume
  expect_message "$store belongs to another run: model_hash"
  flip_a_bit "$file" $(($(stat -c %s "$file") - 2))
  goes_on "$n_reported"
}

read_only() {
  local disk=$work/disk
  mkdir -p "$disk"
  mount -t tmpfs none "$disk" 2>/dev/null || { echo "  not tested: nothing can be mounted here"; return; }
  stopped
  cp "$store" "$disk/store.h5"
  mount -o remount,ro "$disk"
  expect 1 2 "${job[@]}" --out "$work/out" --store "$disk/store.h5" --resume
  expect_message "Read-only file system"
  cmp "$store" "$disk/store.h5" || fail "the store was touched"
  umount "$disk"
  goes_on "$n_reported"
}

# The time of day goes a year back at every look.
clock_jumps() {
  mpirun -n 2 -x "LD_PRELOAD=$CLOCK_JUMPS" "$SHARDQ" "${job[@]}" --out "$work/out" --log "$work/log" </dev/null \
    >/dev/null 2>"$work/err" || { cat "$work/err"; fail "a clock that jumps"; }
  ! grep -E '^  time .*-[0-9]' "$work/err" || fail "a negative time"
  same_folder "$work/whole" "$work/out"
}

# stale FILE COUNT OPTION...: a run in which the first COUNT uses of this file for writing find its mount stale; sets status.
stale() {
  status=0
  mpirun -n 2 -x "LD_PRELOAD=$STALE_MOUNT" -x "STALE_PATH=$1" -x "STALE_COUNT=$2" "${@:3}" "$SHARDQ" "${job[@]}" \
    --out "$work/out" --resume </dev/null >/dev/null 2>"$work/err" || status=$?
}

# While the store is made and opened, while rows are written to it, while the checkpoint is written.
stale_mount() {
  local file
  for file in out.store.h5 out.tmp/model.safetensors; do
    rm -rf "$work/out" "$work/out".*
    stale "$file" 4
    [ "$status" -eq 0 ] || { cat "$work/err"; fail "exit code $status"; }
    sees "Stale file handle; it is tried again"
    same_folder "$work/whole" "$work/out"
    rm -rf "$work/out" "$work/out".*
    stale "$file" 1000
    [ "$status" -eq 1 ] || { cat "$work/err"; fail "exit code $status instead of 1"; }
    grep '^shardq: error: ' "$work/err" | grep -q "$file.*: Stale file handle" || { cat "$work/err"; fail "no message"; }
    goes_on 0
  done
  rm -rf "$work/out" "$work/out".*
  stale out.store.h5 1 -x STALE_WRITES=1 -x STALE_RANK=1
  [ "$(grep -c '^shardq: warning: \[rank 1\]' "$work/err")" -eq 1 ] || { cat "$work/err"; fail "no warning of another rank"; }
  grep -q '^  warnings  *1;' "$work/err" || { cat "$work/err"; fail "the summary does not count it"; }
  rm -rf "$work/out"
  flip_a_bit "$store" $(($(stat -c %s "$store") * 3 / 4))
  cp "$store" "$work/flipped"
  stale out.store.h5 4 -x STALE_WRITES=1
  [ "$status" -eq 0 ] || { cat "$work/err"; fail "exit code $status"; }
  cmp "$work/whole.store.h5" "$store" || fail "the store differs"
  rm -rf "$work/out"
  mv "$work/flipped" "$store"
  stale out.store.h5 1000 -x STALE_WRITES=1
  [ "$status" -eq 1 ] || { cat "$work/err"; fail "exit code $status instead of 1"; }
  expect_message "cannot write to $store:/"
  goes_on 10
}

# The tokens when they are opened, which one process does at a time.
stale_tokens() {
  stale "$work/tokens" 3 -x STALE_READS=1
  [ "$status" -eq 0 ] || { cat "$work/err"; fail "exit code $status"; }
  sees "$work/tokens: Stale file handle; it is tried again"
  same_folder "$work/whole" "$work/out"
  rm -rf "$work/out" "$work/out".*
  stale "$work/tokens" 1000 -x STALE_READS=1
  [ "$status" -eq 1 ] || { cat "$work/err"; fail "exit code $status instead of 1"; }
  expect_message "Stale file handle"
  expect_message "$work/tokens"
}

# The model's files are mapped: what is cut off one is missed where it is used.
model_cut() {
  local file
  begin
  kill -STOP "${pids[@]}"
  cp -r "$model" "$work/kept"
  for file in "$model"/*.safetensors; do truncate -s 4096 "$file"; done
  kill -CONT "${pids[@]}"
  end_within 30
  [ "$status" -eq 1 ] || { cat "$work/err"; fail "exit code $status instead of 1"; }
  grep '^shardq: error: ' "$work/err" | grep -q "cannot read $model/model-.*safetensors: its data are gone" ||
    { cat "$work/err"; fail "no message"; }
  rm -r "$model"
  mv "$work/kept" "$model"
  goes_on "$n_reported"
}

# The first rank alone cannot write rows or activations: the others end with it, and at once.
rank_cannot_write() {
  local file
  for file in out.store.h5 out.store.h5.state; do
    rm -rf "$work/out" "$work/out".*
    status=0
    mpirun -n 3 -x "LD_PRELOAD=$STALE_MOUNT" -x "STALE_PATH=$file" -x STALE_COUNT=1000 -x STALE_WRITES=1 -x STALE_RANK=0 \
      "$SHARDQ" "${job[@]}" --out "$work/out" --timeout 20 </dev/null >/dev/null 2>"$work/err" || status=$?
    [ "$status" -eq 1 ] || { cat "$work/err"; fail "exit code $status instead of 1"; }
    expect_message "cannot write to $work/$file:/"
    goes_on 0
  done
}

# Ranks that find no memory to share with their node give each other no signs of life; that is all.
no_shared_memory() {
  unshare -m true 2>/dev/null || { echo "  not tested: nothing can be mounted here"; return; }
  # shellcheck disable=SC2016 # for the inner shell
  unshare -m bash -c 'mount -t tmpfs -o size=4k none /dev/shm && { cat /dev/zero >/dev/shm/all 2>/dev/null; exec "$@"; }' bash \
    mpirun -n 2 "$SHARDQ" "${job[@]}" --out "$work/out" </dev/null >/dev/null 2>"$work/err" ||
    { cat "$work/err"; fail "without shared memory"; }
  same_folder "$work/whole" "$work/out"
}

# Hints reach MPI-IO, and are no excuse for other bytes; what is none is refused.
file_hints() {
  ROMIO_PRINT_HINTS=1 mpirun -n 2 "$SHARDQ" "${job[@]}" --out "$work/out" --file-hints striping_factor=4,cb_buffer_size=1048576 \
    </dev/null >"$work/hints" 2>"$work/err" || { cat "$work/err"; fail "with hints"; }
  grep -q 'cb_buffer_size *value = 1048576' "$work/hints" || fail "MPI-IO did not get the hints"
  cmp "$work/whole.store.h5" "$store" || fail "the store differs"
  same_folder "$work/whole" "$work/out"
  rm -rf "$work/out" "$work/out".*
  expect 2 2 "${job[@]}" --out "$work/out" --file-hints striping_factor
  expect_message "'striping_factor' is no hint"
}

faults=(kill_last_rank kill_first_rank kill_all_ranks kill_mpirun freeze_first_rank freeze_last_rank one_speaks suspend_job two_jobs one_out
  bit_flipped state_flipped store_truncated model_replaced read_only clock_jumps stale_mount stale_tokens model_cut
  rank_cannot_write no_shared_memory file_hints)
[ $# -eq 0 ] || faults=("$@")
for fault in "${faults[@]}"; do
  since=$SECONDS
  rm -rf "$work/out" "$work/out".*
  $fault
  echo "$fault: $((SECONDS - since)) s"
done
