#!/usr/bin/env bash
# Reports and traces: their numbers are those of the files they are made from.
. "$(dirname "$0")/common.sh"

model=$GOLDEN/llama
tokens "$work/calibration" 6 24 "$(vocabulary llama)" 1
tokens "$work/eval" 3 24 "$(vocabulary llama)" 2
expect 0 2 quantize --model "$model" --tokens "$work/calibration" --out "$work/made" --threads 1 --trace "$work/run.json"
expect 0 2 quantize --model "$model" --tokens "$work/calibration" --out "$work/rounded" --threads 1 --bits 3 --solver rtn
expect 0 2 eval --model "$work/made" --against "$model" --tokens "$work/eval" --json
cp "$work/stdout" "$work/eval.json"
expect 0 1 eval --model "$model" --tokens "$work/eval" --json
cp "$work/stdout" "$work/before.json"
expect 0 1 inspect "$work/made.store.h5" --json
cp "$work/stdout" "$work/store.json"
expect 0 1 report "$work/made.store.h5" "$work/run.json" "$work/eval.json" "$work/before.json" "$work/rounded" --out "$work/both.html"
expect 0 1 report "$work/made" "$work/calibration" --out "$work/folder.html"

python3 - "$work" <<'EOF2'
import json, re, sys
work = sys.argv[1]
def load(name): return json.load(open(f"{work}/{name}"))
def data(name):
    page = open(f"{work}/{name}").read()
    if re.search(r"(src|href)=\"(https?:)?//", page) or "@data@" in page: sys.exit(f"FAIL: {name} needs more than itself")
    return json.loads(re.search(r'id="data">\n(.*?)\n</script>', page, re.S).group(1))
def check(good, words):
    if not good: sys.exit(f"FAIL: {words}")

store, (run, rounded) = load("store.json"), data("both.html")["runs"]
rows = [dict(zip(run["columns"], row)) for row in run["rows"]]
check(len(rows) == store["layers_in_all"], "the report does not have all layers")
for row, layer in zip(rows, store["layers"]):
    check(row["name"] == layer["name"] and abs(row["error"] - layer["error"]) <= 1e-6 * layer["error"], f"error of {row['name']}")
check(run["evals"][0]["model"].endswith("/made") and run["evals"][0]["kl"] > 0, "the evaluation does not say of what it is")
check(run["evals"][1]["model"] == run["config"]["model"], "the original's evaluation is not known as such")
check(rounded["config"]["solver"] == "rtn" and rounded["config"]["bits"] == 3 and rounded["kind"] == "checkpoint", "the second run")
check(run["calibration"]["distinct"] > 0 and run["calibration"]["samples"] == 6, "what the calibration is made of")
weights = run["histograms"][0]
check(sum(weights["original"]) == sum(weights["quantized"]) == sum(weights["codes"]) > 0, "the histograms count other weights")
folder = data("folder.html")["runs"][0]
check([entry["codes"] for entry in folder["histograms"]] == [entry["codes"] for entry in run["histograms"]], "codes of store and folder")
check([entry["quantized"] for entry in folder["histograms"]] == [entry["quantized"] for entry in run["histograms"]], "weights of store and folder")
check(folder["checkpoint_bytes"] == load("made/shardq.json")["checkpoint_bytes"] < folder["source_bytes"], "sizes")

trace = load("run.json")
spans = [event for event in trace["traceEvents"] if event["ph"] == "X"]
check({"forward", "hessian", "solve", "store"} <= {span["name"] for span in spans if span["cat"] == "stages"}, "a stage is missing")
check(any(span["args"]["bytes"] > 0 for span in spans if span["cat"] == "collectives"), "no bytes between the ranks")
check({span["args"]["block"] for span in spans} >= {0, 1}, "spans without their block")
for rank in trace["otherData"]["ranks"]:
    check(rank["peak_bytes"] > 0 and rank["planned_bytes"] > 0, "memory of a rank")
    check(0 < sum(s["seconds"] for s in rank["sums"] if s["kind"] == "stages") <= trace["otherData"]["seconds"] * 1.01, "sums of the stages")
EOF2
python3 "$(dirname "$0")/trace.py" "$work/run.json" 2

# --- warnings: experts with few tokens, and a layer that is no better than plain rounding ---

tokens "$work/few" 9 14 104 1
expect 0 2 quantize --model "$GOLDEN/qwen3_moe" --tokens "$work/few" --out "$work/moe" --threads 1 --expert-tokens 40
grep -q 'no token came to expert 4' "$work/err" || fail "no starved expert to look at"
python3 - "$work" <<'EOF3'
import json, sys
path = sys.argv[1] + "/moe/shardq.json"
record = json.load(open(path))
record["layers"][0].update(error=0.5, error_rtn=0.25)
json.dump(record, open(path, "w"))
EOF3
expect 0 1 report "$work/moe" --out "$work/moe.html"
python3 - "$work" <<'EOF4'
import json, re, sys
page = open(sys.argv[1] + "/moe.html").read()
run = json.loads(re.search(r'id="data">\n(.*?)\n</script>', page, re.S).group(1))["runs"][0]
rows = [dict(zip(run["columns"], row)) for row in run["rows"]]
starved = {row["name"] for row in rows if row["flags"] & 32}
if starved != {row["name"] for row in rows if ".experts." in row["name"] and row["tokens"] < 40} or len(starved) < 3:
    sys.exit(f"FAIL: experts with few tokens: {starved}")
if [row["name"] for row in rows if row["flags"] & 16][:1] != [rows[0]["name"]]:
    sys.exit("FAIL: a layer that is no better than rounding is not marked")
EOF4

# --- a perplexity beyond the largest double is still JSON, which a report takes ---

cp -r "$model" "$work/broken"
shard=$(grep -l '"lm_head.weight"' "$work/broken"/*.safetensors)
poke "$shard" lm_head.weight "$(repeat 16 '\0377\0173')" # 65504 in F16: logits of token 0 are of tens of thousands
expect 0 1 eval --model "$work/broken" --tokens "$work/eval" --json
cp "$work/stdout" "$work/broken.json"
python3 - "$work/broken.json" <<'EOF5'
import json, sys
found = json.load(open(sys.argv[1]), parse_constant=lambda name: sys.exit(f"FAIL: {name} in JSON"))
if not (found["nll"] > 710 and found["perplexity"] > 1e308): sys.exit(f"FAIL: the model is not broken: {found}")
EOF5
expect 0 1 report "$work/made" "$work/broken.json" --out "$work/broken.html"

# --- a trace does not change the bytes; it is refused before the work when it cannot be written ---

expect 0 1 quantize --model "$model" --tokens "$work/calibration" --out "$work/again" --threads 1
cmp "$work/made.store.h5" "$work/again.store.h5" || fail "a trace changes the store"
same_folder "$work/made" "$work/again"
expect 1 2 quantize --model "$model" --tokens "$work/calibration" --out "$work/none" --trace "$work/no/run.json"
expect_message "cannot open trace $work/no/run.json.tmp"
[ ! -e "$work/none.store.h5" ] || fail "work was begun"
mkfifo "$work/fifo"
ln -s made.store.h5 "$work/link"
for kind in fifo link; do # which a renamed file would take the place of
  expect 2 2 quantize --model "$model" --tokens "$work/calibration" --out "$work/none" --trace "$work/$kind"
  expect_message "$work/$kind is a "
  [ ! -e "$work/none.store.h5" ] || fail "work was begun"
  expect 2 2 report "$work/made.store.h5" --out "$work/$kind"
  expect_message "$work/$kind is a "
done
[ -p "$work/fifo" ] && [ -L "$work/link" ] || fail "a file took the place of what is none"
expect 2 1 report "$work/made.store.h5" --out "$work/made.store.h5"
expect_message "are the same"
expect 2 1 report --out "$work/page.html"
expect_message "shardq report needs PATH..."
