#!/usr/bin/env bash
# check.sh: what `bootstrap test` runs after the build. Goes on after a failure, and ends with "N passed, N failed, N skipped".
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.." || exit 1
. tools/common.sh

passed=0 failed=0 skipped=0 failures=()
# Waiting threads sleep: tests run more ranks and threads than there are cores.
export OMP_WAIT_POLICY=passive

count() { # count STATUS NAME
  if [ "$1" -eq 0 ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    failures+=("$2")
  fi
}

# suite_field NAME: a number of the <testsuite> element in $result.
suite_field() { sed -n "s/^[[:space:]]*$1=\"\([0-9]*\)\".*/\1/p" "$result" 2>/dev/null | head -n 1; }

# run_ctest PRESET FOLDER: counts every test of a build from ctest's own result file. Which tests: "testPresets" of CMakePresets.json.
# One test more at a time than there are cores, as each waits a part of its time: for mpirun, and ranks for each other.
run_ctest() {
  local preset=$1 result=$PWD/$2/ctest.xml status=0 tests bad idle
  say "ctest, preset $preset"
  rm -f "$result"
  ctest --preset "$preset" --output-junit "$result" -j $((jobs + 1)) || status=$?
  tests=$(suite_field tests) bad=$(suite_field failures) idle=$(suite_field skipped)
  if [ "${tests:-0}" -eq 0 ] || { [ $status -ne 0 ] && [ "$bad" -eq 0 ]; }; then
    count 1 "ctest of preset $preset"
    return
  fi
  passed=$((passed + tests - bad - idle)) failed=$((failed + bad)) skipped=$((skipped + idle))
  [ "$bad" -eq 0 ] || failures+=("$bad tests of preset $preset")
}

if build_preset cpu; then run_ctest cpu build; else count 1 "the build of the tests"; fi

build_preset clang
count $? "the build with clang"

# Under the sanitizers, the CUDA backend's contract tests on the stand-in and one small job of the program there among them: no
# other whole-program runs and no plans of large models (minutes), no Python, of the tests with many ranks those with one and two,
# and no forward passes on the stand-in (minutes).
if build_preset asan; then
  run_ctest asan build-asan
else
  count 1 "the build with sanitizers"
fi

# The CUDA backend on the stand-in: what has a backend to choose, whole-program runs, and the stand-in's own tests. One of them
# takes three blocks of the demo's model; where that cannot be fetched, a seeded one of its shape.
(fetch_model) || say "no SmolLM2 here: whole_cuda_model takes a seeded model"
if build_preset cudasim; then
  run_ctest cudasim build-cudasim
else
  count 1 "the build with the stand-in for CUDA"
fi

# The same by nvcc, where that and NCCL are found: no warning, a program that does without a device, and the tests that want one,
# which skip where there is none.
found=$(cmake --preset gpu -D SHARDQ_GPU=AUTO 2>&1)
if grep -q 'CUDA backend: none; not found: ' <<<"$found"; then
  say "preset gpu is skipped: $(sed -n 's/.*CUDA backend: none; //p' <<<"$found")"
  skipped=$((skipped + 1))
elif build_preset gpu; then
  run_ctest gpu build-gpu
else
  count 1 "the build with nvcc"
fi

if build_preset fuzz --target tests/fuzz/all; then
  run_ctest fuzz build-fuzz
else
  count 1 "the build of the fuzz targets"
fi

printf '\n'
for name in "${failures[@]+"${failures[@]}"}"; do echo "FAILED: $name"; done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
