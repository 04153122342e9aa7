#!/usr/bin/env bash
# bench and plan as programs: a machine that is measured, a model of which there is config.json alone, what is refused.
. "$(dirname "$0")/common.sh"
top=$(cd "$(dirname "$0")/../.." && pwd)

mkdir "$work/bare"
cp "$GOLDEN/llama/config.json" "$work/bare"
job=(plan --model "$work/bare" --samples 16 --length 64)

# --- samples as long as the model allows, if no length is given ---

h100=$top/configs/machines/h100x8.yaml
"$SHARDQ" plan --model "$work/bare" --machine "$h100" >"$work/stdout" || fail "plan without a length"
grep -q "128 samples of 256 tokens" "$work/stdout" || { cat "$work/stdout"; fail "not the 256 positions of the model"; }
sed -e 's/"max_position_embeddings": *[0-9]*/"max_position_embeddings": 4096/' "$work/bare/config.json" >"$work/longer.json"
"$SHARDQ" plan --model "$work/longer.json" --machine "$h100" >"$work/stdout" || fail "plan of a model with more positions"
grep -q "128 samples of 2048 tokens" "$work/stdout" || { cat "$work/stdout"; fail "not 2048 tokens"; }
expect 2 1 plan --model "$work/bare" --length 2048 --machine "$h100"
expect_message "--length 2048: $work/bare knows 256 positions"

# --- a calibration that is too small is warned of before it is made ---

"$SHARDQ" plan --model "$work/bare" --samples 1 --length 64 --machine "$h100" >/dev/null 2>"$work/err" || fail "plan of few tokens"
grep -q "warning: --samples 1, --length 64: 64 tokens are fewer than the inputs of 2 of 14 layers, the widest model.layers.0.mlp.down_proj with 128: " \
  "$work/err" || { cat "$work/err"; fail "plan does not warn of few tokens"; }
"$SHARDQ" plan --model "$work/bare" --samples 2 --length 64 --machine "$h100" >/dev/null 2>"$work/err" || fail "plan of enough tokens"
! grep -q warning "$work/err" || { cat "$work/err"; fail "plan warns of enough tokens"; }

# --- a machine that is measured, by two ranks ---

run 2 bench --threads 1 --backend cpu --out "$work/machine.yaml" || { cat "$work/err" >&2; fail "bench"; }
grep -q '^ranks_per_node: 2$' "$work/machine.yaml" || fail "bench does not count the ranks of a node"
grep -q '^link: \[' "$work/machine.yaml" || fail "bench does not measure the link between two ranks"
cp "$work/machine.yaml" "$work/measured.yaml"
expect 2 2 bench --threads 1 --out "$work/machine.yaml" # and that at once
expect_message "cannot create $work/machine.yaml: File exists"
cmp "$work/machine.yaml" "$work/measured.yaml" || fail "bench writes over a file"
expect 1 1 bench --threads 1 --out "$work/nowhere/machine.yaml"
expect_message "cannot create $work/nowhere/machine.yaml.tmp"
[ ! -e "$work/machine.yaml.tmp" ] || fail "bench leaves machine.yaml.tmp behind"

"$SHARDQ" "${job[@]}" --machine "$work/machine.yaml" --ranks 1,2,3,40 --json >"$work/plans" || fail "plan"
"$SHARDQ" "${job[@]}" --machine "$work/machine.yaml" --ranks 1,2,3,40 --json | cmp - "$work/plans" || fail "plans differ from run to run"
python3 - "$work/plans" <<'PYTHON'
import json, sys
plans = [json.loads(line) for line in open(sys.argv[1])]
ranks = [p["ranks"] for p in plans]
assert ranks == [1, 2, 3, 40], ranks
for p in plans:
    stages = p["stages"].values()
    assert abs(sum(s["seconds"] for s in stages) - p["seconds"]) < 1e-4 * p["seconds"], p
    assert all(abs(s["seconds"] - s["compute"] - s["links"] - s["files"]) < 1e-4 * s["seconds"] + 1e-12 for s in stages), p
    assert sum(p["memory"].values()) == p["memory_bytes"] and p["fits"] and p["useful_ranks"] >= 1, p
one, two, three, forty = plans
assert one["collectives"]["sum"]["bytes"] == 0 < two["collectives"]["sum"]["bytes"] == forty["collectives"]["sum"]["bytes"]
assert one["memory"]["activations"] > two["memory"]["activations"] > forty["memory"]["activations"]
assert (one["owners"]["samples"], two["owners"]["samples"], forty["owners"]["samples"]) == (16, 8, 1)
assert forty["owners"]["sample_ranks"] == 16
PYTHON

# --- a path to config.json; a table; a machine with devices; blocks that are independent ---

"$SHARDQ" plan --model "$work/bare/config.json" --length 64 --machine "$h100" --ranks 8 >"$work/stdout" || fail "plan of a path to config.json"
grep -q '^device memory of a rank' "$work/stdout" || fail "a machine with devices is planned without them"
"$SHARDQ" "${job[@]}" --machine "$h100" --backend cuda --propagation original --ranks 1,16 --json >"$work/stdout" || fail "plan of propagation original"
[ "$(wc -l <"$work/stdout")" -eq 2 ] || fail "not one line for each number of ranks"
"$SHARDQ" "${job[@]}" --machine "$h100" --backend cuda --ranks 16 --json >>"$work/stdout" || fail "plan of propagation quantized"
python3 - "$work/stdout" <<'PYTHON'
import json, sys
original, quantized = [json.loads(line)["stages"]["store"]["files"] for line in list(open(sys.argv[1]))[1:]]
assert abs(original - quantized) < 1e-3 * quantized, (original, quantized) # all teams write as much as all ranks
PYTHON

# --- independent blocks: a wave takes as long as the slowest of them, lm_head among them; a team shares tiles ---

mkdir "$work/three"
sed -e 's/"num_hidden_layers": 2/"num_hidden_layers": 3/' -e 's/"vocab_size": [0-9]*/"vocab_size": 32000/' "$work/bare/config.json" >"$work/three/config.json"
original=(plan --model "$work/three" --samples 16 --length 64 --machine "$h100" --propagation original --ranks 2 --json)
printf '{rules: [{pattern: "layers[.]0[.]", skip: true}]}\n' >"$work/skip.yaml"
{ "$SHARDQ" "${original[@]}"; "$SHARDQ" "${original[@]}" --lm-head; "$SHARDQ" "${original[@]}" --config "$work/skip.yaml"
  "$SHARDQ" "${original[@]}" --lm-head --ranks 1,6; } >"$work/plans" || fail "plan of waves"
python3 - "$work/plans" <<'PYTHON'
import json, sys
plain, head, skipped, one, six = [json.loads(line) for line in open(sys.argv[1])]
solve = [p["stages"]["solve"]["compute"] for p in (plain, head, skipped)]
assert solve[1] > 1.2 * solve[0], solve # lm_head and the third block at once, and it has many rows
assert abs(solve[2] - solve[0]) < 1e-9 * solve[0], solve # the second block beside the first, which is skipped
assert plain["owners"]["tiles"] == plain["owners"]["rank_tiles"], plain["owners"] # each rank a team
assert head["owners"]["tiles"] > plain["owners"]["tiles"], head["owners"]
assert six["owners"]["rank_tiles"] == (one["owners"]["tiles"] + 1) // 2, six["owners"] # teams of two
PYTHON

# --- ranks that share a node share its memory: those that it has no room for are not worth having ---

sed -e 's/^ranks_per_node:.*/ranks_per_node: 64/' -e 's/^node_memory:.*/node_memory: 3.0e8/' "$top/configs/machines/laptop.yaml" >"$work/small.yaml"
small=(plan --model "$work/bare" --samples 128 --length 64 --machine "$work/small.yaml")
sed -i 's/^link:.*/link: [1.0e15, 1.0e-9]/; s/^parallel_seconds:.*/parallel_seconds: 0/; s/^node_\(read\|write\):.*/node_\1: 1.0e15/' "$work/small.yaml"
"$SHARDQ" "${small[@]}" --ranks 1,2,4,8,16 --json >"$work/plans" || fail "plan of a small node"
python3 - "$work/plans" <<'PYTHON'
import json, sys
plans = [json.loads(line) for line in open(sys.argv[1])]
assert [p["fits"] for p in plans] == [True, True, True, False, False], [p["fits"] for p in plans]
assert plans[2]["seconds"] > plans[3]["seconds"] / 0.9, "eight ranks were not faster: the test shows nothing"
assert plans[0]["useful_ranks"] == 4, plans[0]["useful_ranks"]
PYTHON
"$SHARDQ" "${small[@]}" --memory 30M >"$work/stdout" || fail "plan of activations in a file"
grep -q '^where activations are in a file' "$work/stdout" || fail "the time of the activations' file is not said to be left out"

# --- OPT-175B on devices of 40 GB: H of 49,152 inputs, its factor, and a share of the rows ---

mkdir "$work/opt"
cat >"$work/opt/config.json" <<'EOF'
{"architectures": ["OPTForCausalLM"], "activation_function": "relu", "do_layer_norm_before": true, "hidden_size": 12288,
 "ffn_dim": 49152, "num_attention_heads": 96, "num_hidden_layers": 96, "max_position_embeddings": 2048,
 "word_embed_proj_dim": 12288, "vocab_size": 50272, "tie_word_embeddings": true, "torch_dtype": "float16"}
EOF
sed 's/^device_memory: .*/device_memory: 4.0e10/' "$h100" >"$work/forty.yaml"
opt=(plan --model "$work/opt" --machine "$work/forty.yaml" --length 2048 --json)
{
  "$SHARDQ" "${opt[@]}" --samples 16
  "$SHARDQ" "${opt[@]}" --samples 128 --ranks 8,64
  "$SHARDQ" "${opt[@]}" --samples 128 --ranks 8 --spread-factors never
  "$SHARDQ" "${opt[@]}" --samples 128 --ranks 8 --spread-factors 49152
} >"$work/plans" || fail "plan of OPT-175B"
python3 - "$work/plans" <<'PYTHON'
import json, sys
plans = one, eight, many, apart, wide_alone = [json.loads(line) for line in open(sys.argv[1])]
edge, blocks, groups = 512, 96, {12288: 3, 49152: 1} # groups of a block by their inputs
n = max(groups)
matrix, rest = 4 * n * n, 13 * n # pivots, order, dead inputs
for p in plans:
    shared = {f["inputs"] for f in p["factors"] if f["is_shared"]}
    faster = [f["inputs"] for f in p["factors"] if f["shared_seconds"] < f["alone_seconds"]]
    assert p["fits"] and p["memory_bytes"] <= p["limit_bytes"] < 4.0e10, p
    assert [f["inputs"] for f in p["factors"]] == sorted(groups), p
    assert p["faster_from"] == (min(faster) if p["ranks"] > 1 else 0), p
    assert shared == (set(faster) if p in (eight, many) else {n} if p == wide_alone else set()), p
    assert matrix <= p["memory"]["hessian"] < 1.1 * matrix, p
    assert p["memory"]["factor"] == matrix + rest + (4 * n * edge if shared else 0), p
    # each column of tiles, from its diagonal down
    columns = {inputs: inputs // edge for inputs in shared}
    calls = blocks * sum(groups[inputs] * c for inputs, c in columns.items())
    sent = blocks * sum(groups[inputs] * 4 * edge * edge * c * (c + 1) // 2 for inputs, c in columns.items())
    assert p["collectives"]["memory"] == {"calls": calls, "bytes": sent}, p
    seconds = blocks * sum(groups[f["inputs"]] * f["shared_seconds" if f["is_shared"] else "alone_seconds"] for f in p["factors"])
    assert abs(p["stages"]["factor"]["seconds"] - seconds) < 0.01 * seconds, p
assert many["factors"][1]["shared_seconds"] < eight["factors"][1]["shared_seconds"] < one["factors"][1]["alone_seconds"] / 4
PYTHON

# --- tokens of experts: over the devices' links, and by way of the hosts where ranks have one device together ---

for share in false true; do
  "$SHARDQ" plan --model "$GOLDEN/mixtral" --samples 64 --length 64 --machine "$h100" --ranks 2,16 --set share_device=$share --json
done >"$work/plans" || fail "plan of experts"
python3 - "$work/plans" "$h100" <<'PYTHON'
import json, math, re, sys
plans = [json.loads(line) for line in open(sys.argv[1])]
machine = open(sys.argv[2]).read()
def figures(key): return [float(n) for n in re.findall(r"[-+.0-9e]+", re.search(rf"^{key}: ([^#\n]*)", machine, re.M)[1])]
link, network, host_link, host_network = [figures(key) for key in ("link", "network", "host_link", "host_network")]
def near(a, b): return abs(a - b) < 1e-3 * abs(b) + 2e-8 # figures have six digits
for apart, shared in zip(plans[:2], plans[2:]):
    ranks, on_node, nothing = apart["ranks"], 8, {"calls": 0, "bytes": 0}
    slow, slow_host = (network, host_network) if ranks > on_node else (link, host_link)
    sent, calls = apart["collectives"]["exchange"]["bytes"], apart["collectives"]["exchange"]["calls"]
    messages = calls * (ranks - 1)
    assert sent > 0 and calls > 0 and apart["collectives"]["shift"] == shared["collectives"]["exchange"] == nothing, apart
    # shares are the same, but for what is left when tokens are divided
    shifted = shared["collectives"]["shift"]
    assert shifted["calls"] == messages and near(shifted["bytes"], sent), (shifted, sent)
    def more(limit): return shared["stages"]["forward"][limit] - apart["stages"]["forward"][limit]
    copied = calls * figures("operation_seconds")[0] + 2 * sent / figures("copy")[0] # out and in
    assert near(more("compute"), copied), (more("compute"), copied)
    agrees = calls * 2 * slow[1] * math.log2(ranks) # once more by way of the hosts, which may fail
    away = sent * (ranks - on_node) / (ranks - 1) if ranks > on_node else 0
    by_host = messages * slow_host[1] + sent / slow_host[0]
    by_link = messages * slow[1] + (sent - away) / link[0] + away * on_node / network[0]
    assert near(more("links"), agrees + by_host - by_link), (more("links"), agrees, by_host, by_link)
PYTHON

# --- quantize shares the factorizations that are faster so on its --machine, with the same result ---

mkdir "$work/wide"
python3 - "$GOLDEN/llama/config.json" "$work/wide" <<'PYTHON'
import array, json, random, struct, sys
config = {**json.load(open(sys.argv[1])), "intermediate_size": 1280, "num_hidden_layers": 1, "torch_dtype": "float32"}
json.dump(config, open(f"{sys.argv[2]}/config.json", "w"))
hidden, wide, layer = config["hidden_size"], config["intermediate_size"], "model.layers.0"
shapes = {f"{layer}.self_attn.{name}_proj.weight": [hidden, hidden] for name in "qkvo"}
shapes |= {f"{layer}.mlp.{name}_proj.weight": [wide, hidden] for name in ("gate", "up")} | {f"{layer}.mlp.down_proj.weight": [hidden, wide]}
shapes |= {f"{name}.weight": [config["vocab_size"], hidden] for name in ("model.embed_tokens", "lm_head")}
shapes |= {f"{name}.weight": [hidden] for name in (f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm", "model.norm")}
header, data, draw = {}, bytearray(), random.Random(1)
for name, shape in shapes.items():
    begin, count = len(data), shape[0] * (shape[1] if len(shape) > 1 else 1)
    data += array.array("f", (draw.gauss(0, 0.1) for _ in range(count))).tobytes()
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
text = json.dumps(header).encode()
open(f"{sys.argv[2]}/model.safetensors", "wb").write(struct.pack("<Q", len(text)) + text + data)
PYTHON
tokens "$work/tokens" 16 64 "$(vocabulary llama)" 3
sed 's/^link:.*/link: [1.0e15, 1.0e-12]/' "$top/configs/machines/laptop.yaml" >"$work/fast.yaml"
sed 's/^link:.*/link: [1.0, 1.0]/' "$top/configs/machines/laptop.yaml" >"$work/slow.yaml"

# wide NAME OPTION...: quantizes with them; sets bytes to what a rank takes
wide() {
  local job=(--model "$work/wide" --tokens "$work/tokens" --threads 1 --compute fp32 --backend cpu)
  run 2 quantize "${job[@]}" --out "$work/$1" --log "$work/$1.jsonl" "${@:2}" || { cat "$work/err" >&2; fail "quantize $*"; }
  bytes=$(sed -n 's/^{"event":"start".*"memory_bytes":\([0-9]*\).*/\1/p' "$work/$1.jsonl")
}
wide never --spread-factors never
alone=$bytes
shared=$((alone + 4 * 1280 * 128)) # a column of tiles, on its way
wide auto
[ "$bytes" -eq "$shared" ] || fail "$bytes bytes instead of $shared: no factorization is shared by itself"
wide slow --machine "$work/slow.yaml"
[ "$bytes" -eq "$alone" ] || fail "$bytes bytes instead of $alone: a factorization was shared over a slow link"
wide fast --machine "$work/fast.yaml"
[ "$bytes" -eq "$shared" ] || fail "$bytes bytes instead of $shared: no factorization was shared over a fast link"
cmp "$work/never.store.h5" "$work/fast.store.h5" || fail "what ranks share changes the store"
expect 2 2 quantize --model "$work/wide" --tokens "$work/tokens" --backend cpu --out "$work/other" --machine "$h100"
expect_message "$h100: it describes a machine for backend cuda, not cpu"
expect 2 2 quantize --model "$work/wide" --tokens "$work/tokens" --out "$work/other" --machine "$work/fast.yaml" --trace "$work/fast.yaml"
expect_message "--machine"

# --- what does not fit is said, and what cannot be is refused ---

"$SHARDQ" "${job[@]}" --machine "$work/machine.yaml" --memory 2M --json | grep -q '"fits":false.*"useful_ranks":0' || fail "2 MiB are enough"
expect 2 1 "${job[@]}" --machine "$h100" --backend cpu
expect_message "$h100: it describes a machine for backend cuda, not cpu"
echo "threads: none" >"$work/bad.yaml"
expect 2 1 "${job[@]}" --machine "$work/bad.yaml"
expect_message "bad.yaml:1: threads"
expect 1 1 "${job[@]}" --machine "$work"
expect_message "cannot read machine description $work: Is a directory"
expect 1 1 plan --model "$work/nowhere" --machine "$h100"
expect_message "$work/nowhere/config.json"
