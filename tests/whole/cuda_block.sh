#!/usr/bin/env bash
# The benchmark of one block (tests/bench/block.py), small, on whatever device there is: every stage has its line.
. "$(dirname "$0")/common.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)
python=$top/.venv/bin/python3
"$python" -c 'import numpy, h5py' 2>/dev/null || { echo "skipped: no Python modules"; exit 77; }
need_device

"$python" "$top/tests/bench/block.py" --out "$work/block" --shardq "$SHARDQ" --peak "$BUILD/tests/bench/sq_peak" --hidden 64 --ffn 128 \
  --heads 4 --samples 4 --length 32 --edge 48 --threads 2 >"$work/table" 2>"$work/err" || {
  cat "$work/err" >&2
  fail "block.py"
}
for stage in read forward hessian factor solve gather store 'the block'; do
  grep -qE "^\| $stage +\| [0-9]" "$work/table" || { cat "$work/table" >&2; fail "no line for $stage"; }
done
[ "$(grep -cE '^\| (forward|hessian|factor|solve) .* [0-9.e-]+ %' "$work/table")" -eq 4 ] || fail "not four shares of the peak"
grep -q '^| copies in |' "$work/table" || fail "no copies beside the stages"
