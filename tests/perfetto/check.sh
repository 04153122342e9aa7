#!/usr/bin/env bash
# check.sh [TRACE RANKS]: opens a trace (of the demo, when none is given) in Perfetto itself. Not one of the tests of
# `bootstrap test`: it takes Perfetto's page from PyPI, and starts a server on this machine for it. Needs chromium.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/../.."
. tools/common.sh

python_environment .cache/perfetto tests/perfetto/requirements.txt
.cache/perfetto/bin/python3 -P tests/perfetto/check.py "${1:-demo/gptq.run.json}" "${2:-2}"
echo "Perfetto opens it, and leaves nothing out"
