# shellcheck shell=bash disable=SC2154
# Sourced by the job scripts beside it: run_job starts the ranks, passes Slurm's signal on to them, and puts the job back
# into the queue when it can go on. Also works in an salloc, where the user starts it again himself.
set -uo pipefail
. "$here/site.sh"

say() { echo "$(date '+%F %T') job ${SLURM_JOB_ID:-none}: $*"; }

# start_ranks OPTION... -- COMMAND...: becomes srun or mpirun; the options are srun's, for there mpirun follows Slurm.
start_ranks() {
  local options=()
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  shift
  # srun takes the number of processors of a task from the job no more since Slurm 22.05
  [ -z "${SLURM_CPUS_PER_TASK-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
  case $launcher in
    srun) exec srun "${srun_options[@]}" --kill-on-bad-exit=1 "${options[@]}" "$@" ;;
    mpirun) exec mpirun "${mpirun_options[@]}" "$@" ;;
    *)
      say "launcher '$launcher' in $here/site.sh is neither srun nor mpirun"
      exit 2
      ;;
  esac
}

# A job that was cancelled is not to come back.
is_running() { [ "$(squeue -h -j "$SLURM_JOB_ID" -o %T)" = RUNNING ]; }

# Slurm asks the ranks of a job that it preempts with a grace time to stop, and would take its end for a failure.
is_preempted() { scontrol -o show job "$SLURM_JOB_ID" 2>/dev/null | grep -q ' PreemptTime=[0-9]'; }

put_back() { # put_back WHY
  if [ "${ENVIRONMENT-}" = BATCH ] && is_running && scontrol requeue "$SLURM_JOB_ID"; then
    say "$1; the job is back in the queue"
  else
    say "$1; the same command goes on from there"
  fi
}

# How often ranks were lost so far: the job's comment keeps it, for Slurm's own count has restarts of other reasons, too.
count_lost() {
  local count
  count=$(scontrol -o show job "$SLURM_JOB_ID" 2>/dev/null | sed -n 's/.* Comment=shardq lost ranks: \([0-9]*\).*/\1/p')
  echo "${count:-0}"
}
note_lost() { # note_lost COUNT
  [ "${ENVIRONMENT-}" != BATCH ] || scontrol update "JobId=$SLURM_JOB_ID" "Comment=shardq lost ranks: $1"
}

# What the exit code of the ranks means for the job.
finish() { # finish STATUS
  local lost
  if [ "$1" -eq 75 ] && [ "$near_end" = yes ]; then
    put_back "stopped before the time limit"
  elif [ "$1" -eq 75 ] && is_preempted; then
    put_back "preempted"
  elif [ "$1" -eq 76 ] || [ "$1" -gt 128 ]; then
    lost=$(($(count_lost) + 1))
    if [ "$lost" -le "$retries" ]; then
      note_lost "$lost"
      put_back "ranks were lost (exit code $1, time $lost of $retries)"
    else
      say "ranks were lost (exit code $1) for the ${lost}th time: given up"
    fi
  elif [ "$1" -ne 0 ]; then
    say "exit code $1"
  fi
  exit "$1"
}

# run_job SRUN_OPTION... -- SHARDQ_ARGUMENT...
run_job() {
  local options=() step status is_signalled near_end=no
  while [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  shift
  say "$shardq $* on ${SLURM_JOB_NODELIST:-$(hostname)}, start $((${SLURM_RESTART_COUNT:-0} + 1))"
  start_ranks "${options[@]}" -- "$shardq" "$@" &
  step=$!
  trap 'is_signalled=yes near_end=yes; kill -USR1 "$step" 2>/dev/null; say "asked the ranks to stop"' USR1
  trap 'is_signalled=yes; kill -TERM "$step" 2>/dev/null' TERM INT
  until
    is_signalled=no status=0
    wait "$step" || status=$?
    [ "$is_signalled" = no ] # else it is the signal that ended the wait
  do :; done
  finish "$status"
}
