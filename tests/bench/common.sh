# shellcheck shell=bash
# Sourced by the scripts of this folder: goes to the top of the source tree and brings model, text and environments.
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." || exit
# shellcheck source=tools/common.sh
. tools/common.sh

bench=tests/bench
shardq=${SHARDQ:-build/shardq}
model=${BENCH_MODEL:-$demo_model}

need_program() { [ -x "$shardq" ] || die "$shardq is not there: ./bootstrap build makes it"; }

# The demo's model, unless BENCH_MODEL names another folder.
need_model() {
  [ -n "${BENCH_MODEL-}" ] || fetch_model
  [ -e "$model/config.json" ] || die "$model/config.json is not there"
}

# texts=(FILE...), the files named in BENCH_TEXT (separated by spaces), or else the demo's.
need_text() {
  read -r -a texts <<<"${BENCH_TEXT-}"
  [ ${#texts[@]} -eq 0 ] || return 0
  fetch_text
  texts=("$demo_text/calibration.txt" "$demo_text/evaluation.txt")
}

# An environment with torch, transformers and GPTQModel; a ready one can be named by its interpreter.
need_gptqmodel() {
  [ -z "${BENCH_GPTQMODEL_PYTHON-}" ] || return 0
  python_environment .cache/interop tools/requirements-interop.txt
  BENCH_GPTQMODEL_PYTHON=$PWD/.cache/interop/bin/python3
}
