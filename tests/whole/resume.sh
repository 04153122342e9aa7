#!/usr/bin/env bash
# Jobs killed with -9 at random moments (one rank, all of them, or mpirun), resumed with other rank counts until they are done,
# end in the bytes of an undisturbed run. Both ways of propagation take turns. Each stage of a job is hit: the last kills are aimed at
# those that chance has left out.
# KILLS (12): how many kills have to hit; SEED (1) draws the moments; KILL_MODEL and KILL_SAMPLES: a larger job.
. "$(dirname "$0")/common.sh"
kills=${KILLS:-12}
RANDOM=${SEED:-1}
model=${KILL_MODEL:-$GOLDEN/llama}
tokens "$work/tokens" "${KILL_SAMPLES:-128}" 64 128 7
export OMPI_MCA_btl_vader_backing_directory=$work # what a killed mpirun leaves goes with the rest
job=(quantize --model "$model" --tokens "$work/tokens" --threads 1 --state-seconds 0 --shard-size 64K)

now_ms() { echo $(($(date +%s%N) / 1000000)); }
pause() { sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"; } # pause MILLISECONDS
ranks_of() { pgrep -f "^$SHARDQ quantize.*--out $work/resumed" || true; }

for mode in quantized original; do
  started=$(now_ms)
  run 2 "${job[@]}" --propagation $mode --out "$work/$mode" || { cat "$work/err"; fail "the undisturbed run"; }
  whole_ms=$(($(now_ms) - started))
  work_ms=$(sed -n 's/^  time  *\([0-9]*\)\.\([0-9]\).*/\1\200/p' "$work/err")
  echo "$mode, undisturbed:$(sed -n 's/^  time//p' "$work/err")"
done

stages=(opening "first layers" "later layers" assembling)
declare -A hits_in=()
find_stage() { # sets stage, where the job is
  if [ -e "$work/resumed.tmp" ]; then stage=assembling
  elif grep -q '^block' "$work/err"; then stage="later layers"
  elif grep -q 'layers to quantize' "$work/err"; then stage="first layers"
  else stage=opening; fi
}

find_missing() { # sets missing, the stages that no kill has hit
  local each
  missing=()
  for each in "${stages[@]}"; do [ -n "${hits_in[$each]-}" ] || missing+=("$each"); done
}

await_stage() { # await_stage STAGE MPIRUN_PID
  until [ -n "$(ranks_of)" ] || ! kill -0 "$2" 2>/dev/null; do sleep 0.005; done
  until find_stage; [ "$stage" = "$1" ] || ! kill -0 "$2" 2>/dev/null; do sleep 0.002; done
}

# Half of the moments are drawn from the whole time of a job, half from the time after it has opened its files.
wait_for_moment() { # wait_for_moment MPIRUN_PID
  find_missing
  if [ "${#missing[@]}" -ge $((kills - hits)) ]; then
    await_stage "${missing[0]}" "$1"
    return
  fi
  if [ $((RANDOM % 2)) -eq 0 ]; then
    pause $((RANDOM % whole_ms))
    return
  fi
  until grep -q 'layers to quantize' "$work/err" || ! kill -0 "$1" 2>/dev/null; do sleep 0.005; done
  pause $((RANDOM % (10#$work_ms + 1)))
}

kill_job() { # kill_job MPIRUN_PID; sets stage, where the job was; empty: it was at its end
  local victims
  stage=""
  mapfile -t victims < <(ranks_of)
  [ "${#victims[@]}" -gt 0 ] || return 0
  find_stage
  case $((RANDOM % 5)) in
    0 | 1) victims=("${victims[RANDOM % ${#victims[@]}]}") ;;
    2) victims=("$1") ;;
  esac
  kill -9 "${victims[@]}" 2>/dev/null || true
}

# A rank that dies takes the others along, and nothing is left of them; mpirun itself may lock up when one dies while it
# connects.
await_end() { # await_end MPIRUN_PID; fails when ranks go on
  for _ in $(seq 200); do
    [ -n "$(ranks_of)" ] || kill -0 "$1" 2>/dev/null || return 0
    sleep 0.1
  done
  [ -z "$(ranks_of)" ] || return 1
  kill -9 "$1" || true
}

more() { # whether to kill on
  find_missing
  [ "$hits" -lt "$kills" ] || [ "${#missing[@]}" -gt 0 ]
}

# Runs or goes on with the job of this mode; sets status.
round() {
  local pid ranks=$((RANDOM % 4 + 1))
  stage="" status=0
  : >"$work/err"
  mpirun -n "$ranks" "$SHARDQ" "${job[@]}" --propagation "$mode" --out "$work/resumed" --resume </dev/null >"$work/stdout" 2>"$work/err" &
  pid=$!
  if more; then
    wait_for_moment "$pid"
    # without bash's words on killed jobs
    { kill_job "$pid" && { [ -z "$stage" ] || await_end "$pid"; }; } 2>/dev/null || fail "ranks of a killed job still run"
  fi
  { wait "$pid" || status=$?; } 2>/dev/null
}

hits=0 jobs=0
while more; do
  [ "$jobs" -lt $((kills * 3)) ] || fail "no kill hit a job while ${missing[*]} in $jobs jobs"
  mode=$([ $((jobs % 2)) -eq 0 ] && echo quantized || echo original)
  rm -rf "$work/resumed" "$work/resumed".*
  jobs=$((jobs + 1)) status=1
  while round; [ "$status" -ne 0 ]; do
    # a job that failed by itself says so; one that was killed does not
    if [ -z "$stage" ] || grep -q '^shardq: error: ' "$work/err"; then cat "$work/err"; fail "job $jobs: an error after $hits kills"; fi
    hits=$((hits + 1)) hits_in[$stage]=$((${hits_in[$stage]-0} + 1))
  done
  cmp "$work/$mode.store.h5" "$work/resumed.store.h5" || fail "job $jobs ($mode): the store differs"
  same_folder "$work/$mode" "$work/resumed"
  [ "$(cd "$work" && echo resumed*)" = "resumed resumed.store.h5" ] || fail "left behind: $(cd "$work" && echo resumed*)"
done
echo "$hits kills in $jobs jobs, every result that of an undisturbed run; while"
for stage in "${stages[@]}"; do echo "  $stage: ${hits_in[$stage]}"; done
