#!/usr/bin/env bash
# On devices: what goes on beside the stages shows in the trace, on a track of its own for each stream, and changes no byte.
. "$(dirname "$0")/common.sh"
export CUDASIM_DEVICES=${CUDASIM_DEVICES:-2} # of the stand-in; elsewhere it means nothing
need_device

top=$(cd "$(dirname "$0")/../.." && pwd)
model=$GOLDEN/llama_ffn172
tokens "$work/calibration" 6 24 "$(vocabulary llama_ffn172)" 1
job=(quantize --model "$model" --tokens "$work/calibration" --no-assemble --backend cuda --threads 3)
# two ranks, each with a device, or one where there is one only; early: of the stand-in; its streams go on by themselves then, as
# those of a device do
ranks=2
# rows on their way to a slow disk are still so when the streams go on, however busy the machine is
traced() {
  rm -rf "$work/two"*
  CUDASIM_ORDER=early SHARDQ=$work/slow run "$1" "${job[@]}" --out "$work/two" --trace "$work/run.json"
}
printf '#!/bin/sh\nLD_PRELOAD=%s exec %s "$@"\n' "$SLOW_DISK" "$SHARDQ" >"$work/slow"
chmod +x "$work/slow"
if ! traced 2; then
  expect_message "have one device together"
  ranks=1
  { ! is_stand_in || [ "$CUDASIM_DEVICES" -eq 1 ]; } || fail "two ranks do not get a device each"
fi

# until_seen COMMAND...: the spans are short, and on a busy machine two that can meet may miss each other in a run
until_seen() {
  for _ in 1 2 3 4 5; do "$@" && return; done
  fail "not in five runs"
}

runs_beside() {
  traced $ranks || { cat "$work/err"; fail "$ranks ranks with a device each"; }
  python3 - "$work/run.json" $ranks <<'EOF2'
import json, sys
trace, ranks = json.load(open(sys.argv[1])), int(sys.argv[2])
def check(good, words):
    if not good: sys.exit(words)

names = {(e["pid"], e["tid"]): e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M" and e["name"] == "thread_name"}
spans = [e for e in trace["traceEvents"] if e["ph"] == "X"]
check(all((s["pid"], s["tid"]) in names for s in spans), "a track without a name")
check(len(set(names.values()) - {f"stream {n}" for n in range(3)} - {f"copies out of stream {n}" for n in range(3)}) == 4 + (ranks > 1), f"tracks: {names}")
end = 1e6 * trace["otherData"]["seconds"]
check(all(s["dur"] >= 0 and 0 <= s["ts"] and s["ts"] + s["dur"] <= end + 1 for s in spans), "a span outside the run")

def track(rank, name):
    return [s for s in spans if s["pid"] == rank and names[rank, s["tid"]].startswith(name)]
def meets(span, others):
    return any(span["ts"] < o["ts"] + o["dur"] and o["ts"] < span["ts"] + span["dur"] for o in others)

for rank in range(1, ranks + 1): # numbers of processes
    before = [s for s in track(rank, "stages") if s["name"] in ("forward", "hessian", "factor")]
    solves = [s for s in track(rank, "stages") if s["name"] == "solve"]
    check({"forward", "hessian", "factor", "solve"} <= {s["name"] for s in track(rank, "stream")}, "stages of streams")
    check(any(meets(s, before) and not meets(s, solves) for s in track(rank, "copies in")), "no weights come in before they are needed")
    check(sum(s["args"]["bytes"] for s in track(rank, "copies in")) > 0, "copies in without bytes")
    check(sum(s["args"]["bytes"] for s in track(rank, "copies out")) > 0, "no results go out")
    check(ranks == 1 or {"a sum over ranks", "gathering"} <= {s["name"] for s in track(rank, "NCCL")}, "no sum or no gathering by NCCL")
    files = track(rank, "files")
    check({"read weights", "write rows"} == {s["name"] for s in files}, "files are not read and written beside the stages")
    check({s["name"] for s in files if meets(s, before)} == {"read weights", "write rows"}, "nothing goes on beside the stages")
    streams = track(rank, "stream")
    check(any(meets(s, streams) for s in track(rank, "copies in")), "no copy in beside the streams")
    check(any(meets(s, streams) for s in files if s["name"] == "write rows"), "no rows are written beside the streams")
    check(not any(meets(s, solves) for s in files if s["name"] == "read weights"), "weights are read when they are needed")
    # between two solves: rows of the first group go out, streams compute, weights of the second come in
    between = [{"ts": a["ts"] + a["dur"], "dur": b["ts"] - a["ts"] - a["dur"]} for a, b in zip(solves, solves[1:])]
    beside = [[s for s in files if s["name"] == name] for name in ("read weights", "write rows")] + [track(rank, "copies in"), streams]
    check(any(all(meets(gap, spans_of) for spans_of in beside) for gap in between), "reading, computing and writing do not go on together")
EOF2
}
until_seen runs_beside
python3 "$(dirname "$0")/trace.py" "$work/run.json" $ranks

# --- neither the trace nor ranks change the bytes ---

expect 0 1 "${job[@]}" --out "$work/one"
cmp "$work/two.store.h5" "$work/one.store.h5" || fail "one rank without a trace writes another store"

# --- weights of groups to come are gathered beside the streams where the forward pass takes the checkpoint's own ---

gathers_beside() {
  rm -rf "$work/original"*
  CUDASIM_ORDER=early expect 0 2 "${job[@]}" --propagation original --out "$work/original" --trace "$work/original.json"
  python3 - "$work/original.json" <<'EOF2'
import json, sys
trace = json.load(open(sys.argv[1]))
names = {(e["pid"], e["tid"]): e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M" and e["name"] == "thread_name"}
spans = [e for e in trace["traceEvents"] if e["ph"] == "X"]
for rank in 1, 2:
    streams = [s for s in spans if s["pid"] == rank and names[rank, s["tid"]].startswith("stream")]
    gathers = [s for s in spans if s["pid"] == rank and names[rank, s["tid"]] == "NCCL" and s["name"] == "gathering"]
    if not any(s["ts"] < g["ts"] + g["dur"] and g["ts"] < s["ts"] + s["dur"] for g in gathers for s in streams):
        sys.exit(f"rank {rank}: no weights are gathered beside the streams")
EOF2
}
if [ $ranks -gt 1 ]; then
  until_seen gathers_beside
  expect 0 1 "${job[@]}" --propagation original --out "$work/alone"
  cmp "$work/original.store.h5" "$work/alone.store.h5" || fail "one rank without weights on their way writes another store"
fi

# --- sums of a Hessian's slices go over the ranks beside the products of the next ones ---

# in an order of streams in which neither products nor sums are done at once; spans of a stream that are 0.2 ms apart are joined
sums_beside() {
  rm -rf "$work/sums"*
  CUDASIM_ORDER=1 expect 0 2 "${job[@]}" --out "$work/sums" --trace "$work/sums.json"
  python3 - "$work/sums.json" <<'EOF2'
import json, sys
trace = json.load(open(sys.argv[1]))
names = {(e["pid"], e["tid"]): e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M" and e["name"] == "thread_name"}
spans = [e for e in trace["traceEvents"] if e["ph"] == "X"]
for rank in 1, 2:
    products = [s for s in spans if s["pid"] == rank and names[rank, s["tid"]].startswith("stream") and s["name"] == "hessian"]
    sums = [s for s in spans if s["pid"] == rank and names[rank, s["tid"]] == "NCCL" and s["name"] == "a sum over ranks" and s["dur"] > 300]
    if not any(s["ts"] < p["ts"] + p["dur"] and p["ts"] < s["ts"] + s["dur"] for s in sums for p in products):
        sys.exit(f"rank {rank}: no sum over ranks beside the products of a Hessian")
EOF2
}
if [ $ranks -gt 1 ] && is_stand_in; then
  until_seen sums_beside
  cmp "$work/sums.store.h5" "$work/one.store.h5" || fail "with sums beside the products the store is another"
fi

# --- a small device: first nothing is read ahead, then there are fewer streams, then the job is refused with figures ---

plan_bytes() { # plan_bytes THREADS FIELD: of the job's memory by the plan
  "$SHARDQ" plan --model "$model" --samples 6 --length 24 --threads "$1" --machine "$top/configs/machines/h100x8.yaml" --json |
    sed -n "s/.*\"$2\":\([0-9]*\).*/\1/p"
}
most=$(plan_bytes 3 memory_bytes) least=$(plan_bytes 1 memory_bytes)
[ "$least" -lt "$most" ] || fail "a stream takes no memory"
expect 0 1 "${job[@]}" --out "$work/small" --memory "$((least + (most - least) / 4))"
grep -qE 'of (1|2) threads?,' "$work/err" || { cat "$work/err" >&2; fail "three streams where there is no room for them"; }
cmp "$work/one.store.h5" "$work/small.store.h5" || fail "on a small device the store is another"
if is_stand_in; then # a device of which the three streams of the backend leave only so much
  CUDASIM_MEMORY=$((3 * (2 << 20) + (least + (most - least) / 4) * 10 / 9)) expect 0 1 "${job[@]}" --out "$work/device"
  cmp "$work/one.store.h5" "$work/device.store.h5" || fail "on a device of little memory the store is another"
  CUDASIM_MEMORY=$((3 * (2 << 20) + 100000)) expect 2 1 "${job[@]}" --out "$work/none"
  expect_message "a rank needs"
fi
