#!/bin/sh
# Runs test_tokenize.py with the Python of `bootstrap build` where it is there. Exit code 77: skipped, modules are missing.
here=$(dirname "$(readlink -f "$0")")
python=$here/../.venv/bin/python3
[ -x "$python" ] || python=python3
exec "${SHARDQ_PYTHON:-$python}" "$here/test_tokenize.py"
