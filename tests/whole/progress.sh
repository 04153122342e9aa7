#!/usr/bin/env bash
# What a person sees of a run: a live line and colours in a terminal, also behind mpirun; plain lines in a file.
. "$(dirname "$0")/common.sh"
here=$(dirname "$0")
export TERM=xterm
unset NO_COLOR
escape=$'\033'

tokens "$work/calibration" 6 24 "$(vocabulary smollm2)" 1
cp -r "$GOLDEN/smollm2" "$work/model"
poke "$work/model/model.safetensors" model.layers.0.input_layernorm.weight '\0000\0000\0000\0000' # a dead input: warnings
job=("$SHARDQ" quantize --model "$work/model" --tokens "$work/calibration" --out "$work/made" --threads 1)

watch() { # watch COMMAND...: what it writes to a terminal is in $work/seen
  rm -rf "$work/made"*
  python3 "$here/progress.py" "$@" >"$work/seen" || fail "$*"
}
seen() { grep -qF -- "$1" "$work/seen" || { cat -v "$work/seen" | tail -20; fail "no '$1': $2"; }; }
unseen() { ! grep -qF -- "$1" "$work/seen" || { cat -v "$work/seen" | tail -20; fail "'$1': $2"; }; }

for launcher in "" "mpirun -n 2"; do
  watch $launcher "${job[@]}"
  seen $'\r'"$escape[Kblock " "a live line, $launcher"
  seen "layers/s, about " "the rate and the time left, $launcher"
  seen "shardq: $escape[1;33mwarning:$escape[0m " "a coloured warning, $launcher"
  unseen "done: " "a plain line where there is a live one, $launcher"
  NO_COLOR=1 watch $launcher "${job[@]}"
  seen $'\r'"$escape[Kblock " "a live line without colours, $launcher"
  unseen "$escape[1;33m" "colours in spite of NO_COLOR, $launcher"
done
longest=$(tr '\r' '\n' <"$work/seen" | sed "s/$escape\[K//" | grep 'layers/s' | awk '{ print length }' | sort -n | tail -1)
[ "$longest" -lt 100 ] || fail "a live line of $longest columns wraps in a terminal of 100"

rm -rf "$work/made"*
mpirun -n 2 "${job[@]}" >"$work/seen" 2>&1 </dev/null
unseen "$escape" "escape codes in a file"
seen "block   1/2  done: 50 %, " "a plain line per block"
