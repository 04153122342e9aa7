# shellcheck shell=bash
# What the whole-program tests share. SHARDQ, MAKE_TOKENS, HOLD and GOLDEN (tests/golden) come from the environment.
set -euo pipefail
: "${SHARDQ:?}" "${MAKE_TOKENS:?}" "${GOLDEN:?}" "${HOLD:?}"
work=$(mktemp -d "${TMPDIR:-/tmp}/shardq-test.XXXXXX")
cleanup() { rm -rf "$work"; }
trap cleanup EXIT

fail() {
  echo "FAIL: $*" >&2
  exit 1
}

# run RANKS ARGS...: the program on that many ranks, its messages in $work/err.
run() {
  local ranks=$1
  shift
  mpirun -n "$ranks" "$SHARDQ" "$@" </dev/null 2>"$work/err"
}

# start_held AT RANKS ARGS...: starts a job whose rank 0 stops itself there (HOLD_AT of ../hold.c), and waits until it stands. Sets
# job_pid, and pids by rank; let_go lets it go on.
start_held() { launch_held "$1" "$2" -n "$2" "$SHARDQ" "${@:3}"; }

# launch_held AT RANKS MPIRUN_ARGS...: the same for other ways to start ranks, of which so many are on this host.
launch_held() {
  local at=$1 ranks=$2
  shift 2
  : >"$work/err"
  : >"$work/hold"
  mpirun -x "LD_PRELOAD=$HOLD" -x "HOLD_FILE=$work/hold" -x "HOLD_AT=$at" "$@" </dev/null >/dev/null 2>"$work/err" &
  job_pid=$!
  until [ ! -e "$work/hold" ]; do
    kill -0 "$job_pid" 2>/dev/null || { cat "$work/err"; fail "the job did not come to the point where it is held"; }
    sleep 0.01
  done
  mapfile -t pids < <(pgrep -P "$job_pid" -x "$(basename "$SHARDQ")")
  [ ${#pids[@]} -eq "$ranks" ] || fail "${#pids[@]} ranks instead of $ranks"
  until ps -o stat= -p "${pids[0]}" | grep -q '^T'; do
    kill -0 "${pids[0]}" 2>/dev/null || { cat "$work/err"; fail "the job did not stay where it is held"; }
    sleep 0.01
  done
}
let_go() { kill -CONT "${pids[0]}" 2>/dev/null || true; }

# expect STATUS RANKS ARGS...: as run, but with that exit code.
expect() {
  local wanted=$1 status=0
  shift
  run "$@" >"$work/stdout" || status=$?
  [ "$status" -eq "$wanted" ] || { cat "$work/err" >&2; fail "exit code $status instead of $wanted: $*"; }
}

# expect_message TEXT: exactly one error line, and it holds TEXT.
expect_message() {
  local lines
  lines=$(grep -c '^shardq: error: ' "$work/err" || true)
  [ "$lines" -eq 1 ] || { cat "$work/err" >&2; fail "$lines error lines instead of 1"; }
  grep '^shardq: error: ' "$work/err" | grep -qF -- "$1" || { cat "$work/err" >&2; fail "no '$1' in the message"; }
}

near() { # near A... B... TOLERANCE WHAT: of the numbers that two texts begin with: 0 < B and |A - B| <= TOLERANCE * B
  echo "$4: $1, $2"
  awk -v a="${1%%,*}" -v b="${2%%,*}" -v t="$3" 'BEGIN { exit !(b > 0 && a - b <= t * b && b - a <= t * b) }' || fail "$4: $1, $2"
}

is_stand_in() { grep -q CUDASIM_DEVICES "$SHARDQ"; } # for CUDA; what the settings CUDASIM_... tell it means nothing to a device

need_device() { # ends the test as skipped where the program finds no device that it can use
  tokens "$work/probe" 1 8 "$(vocabulary llama)" 1
  run 1 eval --model "$GOLDEN/llama" --tokens "$work/probe" --backend cuda --threads 1 >/dev/null && return
  if ! is_stand_in && grep -q -e '--backend cuda: ' "$work/err"; then
    echo "skipped: $(sed -n 's/.*--backend cuda: //p' "$work/err")"
    exit 77
  fi
  cat "$work/err" >&2
  fail "no job on the device"
}

tokens() { # tokens FILE SAMPLES LENGTH VOCABULARY SEED [XXH3]: the last of a tokenizer
  "$MAKE_TOKENS" "$@"
}

vocabulary() { # vocabulary MODEL
  awk -v name="$1" '$1 == name { print $4 }' "$GOLDEN/manifest.txt"
}

# A --memory with which the activations of a one-rank, one-thread job do not fit, but all the rest does.
tight_memory() { # tight_memory MODEL SAMPLES LENGTH
  "$SHARDQ" plan --model "$1" --samples "$2" --length "$3" --threads 1 --json |
    sed -n 's/.*"memory_bytes":\([0-9]*\).*"activations_bytes":\([0-9]*\).*/\1 \2/p' | awk '{ printf "%d", $1 - $2 / 2 }'
}

same_folder() { # same_folder A B: the same files with the same bytes
  diff -rq "$1" "$2" >/dev/null || fail "$1 and $2 differ: $(diff -rq "$1" "$2" | head -3)"
}

poke() { # poke FILE TENSOR BYTES: overwrites the first element of a safetensors file's tensor; BYTES as for printf %b
  local header offset
  header=$(od -An -t u8 -N 8 "$1")
  offset=$(head -c "$((header + 8))" "$1" | tail -c +9 | sed -n "s/.*\"$2\":{[^}]*\"data_offsets\":\[\([0-9]*\).*/\1/p")
  printf '%b' "$3" | dd of="$1" bs=1 seek=$((8 + header + offset)) conv=notrunc status=none
}

repeat() { # repeat COUNT TEXT
  local text
  printf -v text "%$1s"
  printf %s "${text// /"$2"}"
}
