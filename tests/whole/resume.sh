#!/usr/bin/env bash
# A job killed with -9 at random moments (one rank, or all), resumed with other rank counts until it is done, ends in the bytes
# of an undisturbed run. KILLS (12) is the number of kills that must have hit; SEED (1) draws the moments.
. "$(dirname "$0")/common.sh"
kills=${KILLS:-12}
RANDOM=${SEED:-1}
model=${KILL_MODEL:-$GOLDEN/llama}
options=(--state-seconds 0)

tokens "$work/tokens" 24 40 "$(vocabulary llama)" 7
started=$(date +%s%N)
run 2 quantize --model "$model" --tokens "$work/tokens" --out "$work/whole" --store "$work/whole.h5" "${options[@]}" ||
  { cat "$work/err"; fail "the undisturbed run"; }
whole_ms=$((($(date +%s%N) - started) / 1000000))

# Kills one of the job's ranks, or all, after a random part of the time the whole job took.
kill_later() { # kill_later MPIRUN_PID
  local delay=$((RANDOM % (whole_ms + 100))) ranks
  sleep "$(printf '%d.%03d' $((delay / 1000)) $((delay % 1000)))"
  mapfile -t ranks < <(pgrep -f "$SHARDQ quantize.*$work/resumed" | grep -v "^$1\$" || true)
  [ "${#ranks[@]}" -gt 0 ] || return 0
  if [ $((RANDOM % 2)) -eq 0 ]; then
    kill -9 "${ranks[RANDOM % ${#ranks[@]}]}" 2>/dev/null || true
  else
    kill -9 "${ranks[@]}" 2>/dev/null || true
  fi
}

hits=0 jobs=0 rounds=0
while [ "$hits" -lt "$kills" ]; do
  rm -rf "$work/resumed" "$work/resumed".*
  jobs=$((jobs + 1))
  while :; do
    ranks=$((RANDOM % 4 + 1)) status=0
    rounds=$((rounds + 1))
    mpirun -n "$ranks" "$SHARDQ" quantize --model "$model" --tokens "$work/tokens" --out "$work/resumed" \
      --store "$work/resumed.h5" --resume --threads 1 "${options[@]}" </dev/null >"$work/out" 2>"$work/err" &
    job=$!
    if [ "$hits" -lt "$kills" ]; then kill_later "$job"; fi
    wait "$job" || status=$?
    [ "$status" -eq 0 ] && break
    # a job that failed by itself says so; one that was killed does not
    if grep -q '^shardq: error: ' "$work/err"; then cat "$work/err"; fail "round $rounds ended in an error"; fi
    hits=$((hits + 1))
  done
  cmp "$work/whole.h5" "$work/resumed.h5" || fail "the store of job $jobs differs"
  same_folder "$work/whole" "$work/resumed"
done
echo "$hits kills in $jobs jobs: every result is that of the undisturbed run"
