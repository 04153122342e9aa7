#!/usr/bin/env bash
# How often a job is put back into the queue: without end before its time limit, a set number of times after ranks were
# lost, and when it is preempted. scontrol, squeue and srun are stand-ins here that keep the job's comment; jobs.sh has the
# real ones.
set -euo pipefail
work=$(mktemp -d "${TMPDIR:-/tmp}/shardq-test.XXXXXX")
trap 'rm -rf "$work"' EXIT
scripts=$(cd "$(dirname "$0")/../../slurm" && pwd)
fail() {
  cat "$work/log"
  echo "FAIL: $*" >&2
  exit 1
}

cat >"$work/scontrol" <<'EOF'
#!/bin/sh
case "$1 $2" in
  "-o show") echo "JobId=7 JobName=x Restarts=9 Comment=$(cat "$COMMENT") PreemptTime=${PREEMPTED:-None} Power=" ;;
  "update JobId=7") echo "${3#Comment=}" >"$COMMENT" ;;
  "requeue 7") echo requeued ;;
  *) exit 1 ;;
esac
EOF
printf '#!/bin/sh\necho RUNNING\n' >"$work/squeue"
cat >"$work/srun" <<'EOF'
#!/bin/sh
trap : USR1
sleep 0.2
[ "$STATUS" -ne 75 ] || [ -n "${PREEMPTED-}" ] || kill -USR1 $PPID
sleep 0.2
exit "$STATUS"
EOF
chmod +x "$work"/s*
export COMMENT=$work/comment SLURM_JOB_ID=7 ENVIRONMENT=BATCH SHARDQ_RETRIES=2 PATH=$work:$PATH
: >"$COMMENT"

# ends STATUS TEXT: a start of the job whose ranks end with it; the job says the text.
ends() {
  local status=0
  STATUS=$1 here=$scripts bash -c '. "$here/launch.sh" && run_job -- quantize' >"$work/log" 2>&1 || status=$?
  [ "$status" -eq "$1" ] || fail "exit code $status instead of $1"
  grep -qF -- "$2" "$work/log" || fail "no '$2'"
}

for restart in 0 1 2 3; do
  export SLURM_RESTART_COUNT=$restart
  ends 75 'stopped before the time limit; the job is back in the queue'
done
export SLURM_RESTART_COUNT=4
ends 76 'ranks were lost (exit code 76, time 1 of 2); the job is back in the queue'
ends 75 'stopped before the time limit; the job is back in the queue'
ends 137 'ranks were lost (exit code 137, time 2 of 2); the job is back in the queue'
ends 76 'given up'
! grep -q requeued "$work/log" || fail "put back once more"
PREEMPTED=2026-01-01T00:00:00 ends 75 'preempted; the job is back in the queue'
ends 1 'exit code 1'
! grep -q requeued "$work/log" || fail "put back after an error"
