#!/usr/bin/env bash
# The kernels' contract tests and a small job on a device under NVIDIA's compute-sanitizer, for accesses and for races. Exit code 77
# where there is no device, or no compute-sanitizer in PATH or beside nvcc (COMPUTE_SANITIZER: another one).
. "$(dirname "$0")/common.sh"
nvcc=$(command -v nvcc || true)
sanitizer=${COMPUTE_SANITIZER:-$(PATH=$PATH:${nvcc:+$(dirname "$(readlink -f "$nvcc")")} command -v compute-sanitizer || true)}
[ -n "$sanitizer" ] || { echo "skipped: no compute-sanitizer"; exit 77; }
need_device
export SHARDQ_TEST_BACKEND=cuda

# Of errors that the runtime returns the program itself takes care. What it finds gives 99; all else is the program's own exit code.
check() { # check TOOL PROGRAM ARGS...
  local status=0
  "$sanitizer" --tool "$1" --report-api-errors no --error-exitcode 99 "${@:2}" </dev/null >"$work/sanitizer" 2>&1 || status=$?
  [ $status -eq 0 ] || { tail -n 100 "$work/sanitizer" >&2; fail "exit code $status: ${*:1:2}"; }
  grep -qE '^========= (ERROR SUMMARY|RACECHECK SUMMARY): 0 ' "$work/sanitizer" || fail "no word of $1 on $2"
}

tokens "$work/tokens" 2 8 "$(vocabulary llama)" 1
for tool in memcheck racecheck; do
  for test in backend backend_beside backend_steps backend_attention backend_experts factor solve refine; do
    check $tool "$BUILD/tests/test_$test"
  done
  check $tool "$SHARDQ" quantize --model "$GOLDEN/llama" --tokens "$work/tokens" --backend cuda --threads 1 --out "$work/$tool"
done
same_folder "$work/memcheck" "$work/racecheck"
