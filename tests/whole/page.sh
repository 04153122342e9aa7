#!/usr/bin/env bash
# The report in a browser: it draws at 400 and 1,600 pixels, light and dark, without a word on the console. Needs chromium; exit
# code 77 where it is missing. SHARDQ_SCREENSHOTS=FOLDER keeps the pictures.
. "$(dirname "$0")/common.sh"
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[ -n "$browser" ] || { echo "skipped: no chromium"; exit 77; }

tokens "$work/calibration" 6 24 "$(vocabulary llama)" 1
job=(quantize --model "$GOLDEN/llama" --tokens "$work/calibration" --threads 1)
expect 0 2 "${job[@]}" --out "$work/made" --trace "$work/run.json"
expect 0 1 "${job[@]}" --out "$work/other" --bits 3 --solver rtn
echo '{"perplexity": 12.5, "kl": 0.25, "agreement": 0.75, "model": "made", "tokens_file": "e.h5"}' >"$work/made.eval.json"
echo '{"perplexity": 17.5, "kl": 0.5, "agreement": 0.5, "model": "other", "tokens_file": "e.h5"}' >"$work/other.eval.json"
expect 0 1 report "$work/made" "$work/run.json" "$work/made.eval.json" --out "$work/one.html"
expect 0 1 report "$work/made.store.h5" "$work/run.json" "$work/made.eval.json" "$work/other" "$work/other.eval.json" --out "$work/two.html"

tokens "$work/few" 9 14 104 1
expect 0 2 quantize --model "$GOLDEN/qwen3_moe" --tokens "$work/few" --out "$work/moe" --threads 1 --expert-tokens 40
expect 0 1 report "$work/moe" --out "$work/moe.html"

open_page() { # open_page PAGE WIDTH OPTION...: what it prints; console messages are in $work/console
  timeout 120 "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$work/browser" \
    --hide-scrollbars --virtual-time-budget=3000 --window-size="$2,2400" --enable-logging=stderr "${@:3}" "file://$work/$1" 2>"$work/console" ||
    { tail -5 "$work/console" >&2; fail "the browser failed on $1"; }
  ! grep -E ':CONSOLE[:(]' "$work/console" >&2 || fail "$1 speaks on the console"
}

look_for() { # look_for PAGE PATTERN...
  local page=$1 pattern
  shift
  for pattern in "$@"; do grep -qE -- "$pattern" "$work/dom" || fail "$page: no $pattern"; done
}

for page in one two; do
  open_page $page.html 1600 --dump-dom >"$work/dom"
  look_for $page 'data-ready="yes"' 'id="warnings"' 'aria-label="GPTQ, by block and module' 'id="weights"' 'Block [01] in detail' 'rank 1: forward' \
    'aria-sort="descending"' 'model\.layers\.1\.|mlp\.down_proj' 'id="settings"' '12\.50'
  ! grep -qE 'NaN|undefined|Infinity' <(sed '/id="data"/,/<\/script>/d; /<script>/,/<\/script>/d' "$work/dom") || fail "$page: a figure is no number"
done
look_for two 'id="comparison"' '<th scope="row">solver</th><td>gptq</td><td>rtn</td>' 'class="best">12\.50' 'Perplexity by size' 'id="chosen"'

open_page moe.html 1600 --dump-dom >"$work/dom"
look_for moe '[0-9] experts: few tokens' 'block 0, expert 4: 0 tokens' 'id="experts"' 'of 6 saw fewer than 40 \(underlined\)' 'class="marks"'

# --- pictures: of the width that was asked for, nothing that sticks out, and neither blank nor black ---

cat >"$work/wide.html" <<'EOF2'
<!doctype html><body style="margin:0"><iframe id="f" src="one.html" style="border:0;width:400px;height:2400px"></iframe><pre id="o"></pre>
<script>f.onload = () => { const d = f.contentDocument.documentElement; o.textContent = `page ${d.scrollWidth} of ${d.clientWidth} pixels`; };</script>
EOF2
open_page wide.html 1000 --dump-dom --allow-file-access-from-files >"$work/dom"
look_for "one.html at 400 pixels" 'page 400 of 400 pixels'

picture() { # picture NAME WIDTH OPTION...
  open_page one.html "$2" --screenshot="$work/$1.png" "${@:3}"
  [ "$(stat -c %s "$work/$1.png")" -gt 40000 ] || fail "the picture $1 is blank"
  [ -z "${SHARDQ_SCREENSHOTS:-}" ] || cp "$work/$1.png" "$SHARDQ_SCREENSHOTS/"
}
picture narrow 400
picture wide 1600
picture dark 1600 --blink-settings=preferredColorScheme=0
! cmp -s "$work/wide.png" "$work/dark.png" || fail "light and dark are the same"
