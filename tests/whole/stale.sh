#!/usr/bin/env bash
# What an earlier job left behind is used only when it belongs: saved activations of another store, a folder in OUT's place.
. "$(dirname "$0")/common.sh"
tokens "$work/tokens" 128 64 "$(vocabulary llama)" 7
job=(quantize --model "$GOLDEN/llama" --tokens "$work/tokens" --threads 1)
expect 0 1 "${job[@]}" --out "$work/whole"

# activations saved before block 2, of a store that is gone
start_held 4 1 "${job[@]}" --out "$work/out" --state-seconds 0
kill -9 "${pids[0]}"
wait "$job_pid" || true
[ -e "$work/out.store.h5.state" ] || fail "no activations were saved"
rm -rf "$work/out" "$work/out.store.h5"
expect 0 2 "${job[@]}" --out "$work/out"
same_folder "$work/whole" "$work/out"

# a folder of somebody else's in OUT's place, or in that of its unfinished form
rm -rf "$work/out"
mkdir "$work/out" "$work/other.tmp"
echo precious | tee "$work/out/kept" >"$work/other.tmp/kept"
expect 2 2 "${job[@]}" --out "$work/out" --resume
expect_message "$work/out"
expect 2 2 "${job[@]}" --out "$work/other" --store "$work/other.h5"
expect_message "$work/other.tmp"
grep -q precious "$work/out/kept" "$work/other.tmp/kept" || fail "somebody else's file is gone"

# the same store in another form
rm -rf "$work/out"
expect 0 1 "${job[@]}" --out "$work/out" --resume
same_folder "$work/whole" "$work/out"
expect 0 2 "${job[@]}" --out "$work/out" --resume --format gptq_v2
grep -q '"gptq_v2"' "$work/out/config.json" || fail "the other format was not written"
expect 0 1 "${job[@]}" --out "$work/out" --resume --format gptq_v2
grep -q 'nothing to do' "$work/err" || fail "a finished job did not say so"
