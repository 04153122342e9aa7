#!/usr/bin/env bash
# What the files mean: checkpoints say what their plain counterparts say, stores and checkpoints agree, and the commands
# that look at them do, too.
. "$(dirname "$0")/common.sh"
here=$(dirname "$0")

must() { # must RANKS ARGS...: has to succeed; what it printed is in $work/stdout
  run "$@" >"$work/stdout" || { cat "$work/err" >&2; fail "$*"; }
}

field() { # field KEY: a number of the one JSON object in $work/stdout
  sed -n "s/.*\"$1\":\([^,}]*\).*/\1/p" "$work/stdout"
}

nll() { # nll MODEL
  must 2 eval --model "$1" --tokens "$work/eval" --compute fp32 --threads 1 --json
  field nll
}

forget() { rm -rf "$work"/made* "$work/plain" "$work/again"*; }

# --- a GPTQ checkpoint and the plain one with the same rounded weights are the same model ---

same_model() { # same_model MODEL FORMAT OPTION...: of a model whose weights are F32
  local model=$1 format=$2
  shift 2
  forget
  must 2 quantize --model "$model" --tokens "$work/calibration" --out "$work/made" --threads 1 "$@"
  must 2 assemble --store "$work/made.store.h5" --out "$work/plain" --dequantized
  grep -q "\"checkpoint_format\": \"$format\"\|\"quant_method\": \"$format\"" "$work/made/config.json" || fail "$model $*: the format is not $format"
  near "$(nll "$work/made")" "$(nll "$work/plain")" 1e-6 "nll of the checkpoint and of the rounded weights, $model $*"
}

family() { # family MODEL FORMAT OPTION...
  tokens "$work/calibration" 6 24 "$(vocabulary "$1")" 1
  tokens "$work/eval" 3 24 "$(vocabulary "$1")" 2
  [ -e "$work/$1" ] || python3 "$here/widen.py" "$GOLDEN/$1" "$work/$1"
  same_model "$work/$1" "${@:2}"
}

family llama_ffn172 gptq_v2 --bits 3 --group-size 32 --ragged
family llama_head_dim gptq --lm-head --group-size 32
family mistral gptq --bits 8
family qwen2 gptq_v2 --bits 2 --asymmetric
family qwen3 gptq_v2 --bits 4 --format gptq_v2 --order natural
family opt gptq_v2 --bits 8 --asymmetric --group-size 32
family opt_untied gptq --lm-head --scale-dtype bf16
family llama_bias compressed-tensors --format compressed-tensors --bits 8 --asymmetric
family llama3 compressed-tensors --format compressed-tensors --bits 4 --group-size 32 --scale-dtype bf16

# same_errors BOUND: what verify found, in stdout, beside what the store has, in store.json; relative
same_errors() {
  python3 - "$work/store.json" "$work/stdout" "$1" <<'EOF' || exit 1
import json, sys
stored = {layer["name"]: layer["error"] for layer in json.load(open(sys.argv[1]))["layers"]}
found = {layer["name"]: layer["error"] for layer in map(json.loads, open(sys.argv[2]))}
bound = float(sys.argv[3])
wrong = [f"{n} {stored[n]} {found.get(n)}" for n in stored if not abs(found.get(n, 9) - stored[n]) <= bound * stored[n]]
sys.exit("\n".join(["FAIL: verify does not find the errors of the store:", *wrong]) if wrong or not stored else 0)
EOF
}

# --- a model of 8-bit or 4-bit weights: what is kept becomes BF16, nothing of the bits is left ---

for model in llama_fp8_block llama_fp8_tensor gpt_oss_mxfp4; do
  forget
  tokens "$work/calibration" 6 24 "$(vocabulary "$model")" 1
  tokens "$work/eval" 3 24 "$(vocabulary "$model")" 2
  must 2 quantize --model "$GOLDEN/$model" --tokens "$work/calibration" --out "$work/made" --threads 1 --bits 8 --skip 'layers\.0\.mlp\.(experts\.2\.)?down_proj'
  must 2 assemble --store "$work/made.store.h5" --out "$work/plain" --dequantized
  grep -q '"quant_method": "gptq"' "$work/made/config.json" || fail "$model: quantization_config is not the checkpoint's"
  ! grep -q quantization_config "$work/plain/config.json" || fail "$model: the source's quantization_config is left"
  ! grep -qaE 'F8_E4M3|_scale|input_scale|_blocks' "$work/made/model.safetensors" "$work/plain/model.safetensors" || fail "$model: tensors of few bits are left"
  near "$(nll "$work/made")" "$(nll "$GOLDEN/$model")" 0.01 "nll of $model with 8 bits and of $model" # 8 bits lose little
  near "$(nll "$work/made")" "$(nll "$work/plain")" 0.01 "nll of the checkpoint and of its weights in BF16, $model"
done

# the calibration has gone through the layers that are kept as they are kept, also where it computes in fp32
forget
tokens "$work/calibration" 6 24 "$(vocabulary llama_fp8_block)" 1
must 2 quantize --model "$GOLDEN/llama_fp8_block" --tokens "$work/calibration" --out "$work/made" --threads 1 --compute fp32 --skip 'layers\.0\.(self_attn|mlp)'
must 1 inspect "$work/made.store.h5" --json
cp "$work/stdout" "$work/store.json"
must 1 verify --model "$GOLDEN/llama_fp8_block" --checkpoint "$work/made" --tokens "$work/calibration" --compute fp32 --json
same_errors 1e-6

# --- assembling again gives the same bytes; errors can be found again from the files ---

family smollm2 gptq_v2 --bits 3
must 1 inspect "$work/made.store.h5" --json
cp "$work/stdout" "$work/store.json"
must 3 verify --model "$work/smollm2" --checkpoint "$work/made" --tokens "$work/calibration" --json
grep -qF 'makes the same bytes again here' "$work/err" || fail "verify does not say that the bytes can be made again"
same_errors 1e-3
run 1 quantize --config "$work/made/shardq.json" --out "$work/remade" || fail "quantize from the record"
same_folder "$work/made" "$work/remade"
must 1 verify --model "$work/smollm2" --checkpoint "$work/made" --tokens "$work/eval" --isa generic
grep -q 'cannot be made again from what is here: tokens_hash: .*; backend: the record has cpu [^;]*, this run has cpu generic' "$work/err" ||
  fail "verify does not say what is different"
must 2 eval --model "$work/made" --against "$work/made" --tokens "$work/eval" --json
[ "$(field kl) $(field agreement)" = "0 1" ] || fail "a model is not at distance 0 from itself"
must 2 eval --model "$work/made" --against "$work/smollm2" --tokens "$work/eval" --json
awk -v kl="$(field kl)" 'BEGIN { exit !(kl > 0) }' || fail "a quantized model is at distance 0 from the original"

llama=(--model "$GOLDEN/llama" --tokens "$work/calibration")
forget
must 2 quantize "${llama[@]}" --out "$work/made" --threads 1 --shard-size 20K
[ -e "$work/made/model.safetensors.index.json" ] || fail "one file in spite of --shard-size"
grep -q '"dynamic": null' "$work/made/config.json" || fail "exceptions where every layer of the blocks has one setting"
cmp "$GOLDEN/llama/tokenizer.json" "$work/made/tokenizer.json" || fail "the tokenizer was not copied"
for ranks in 1 2 3; do
  must "$ranks" assemble --store "$work/made.store.h5" --out "$work/again$ranks" --shard-size 20K
  same_folder "$work/made" "$work/again$ranks"
done
must 2 quantize "${llama[@]}" --no-assemble --store "$work/again.h5" --out "$work/again" --shard-size 20K
cmp "$work/made.store.h5" "$work/again.h5" || fail "--no-assemble makes another store"
[ ! -e "$work/again" ] || fail "--no-assemble made a checkpoint"

# --- a store made with relative paths is assembled from elsewhere, and continued under another name of the model ---

forget
cp -r "$GOLDEN/llama" "$work/again-model"
cp "$work/calibration" "$work/again-tokens"
(cd "$work" && must 2 quantize --model again-model --tokens ./again-tokens --out made --no-assemble)
must 1 assemble --store "$work/made.store.h5" --out "$work/made"
mv "$work/again-model" "$work/again-moved"
must 1 quantize --model "$work/again-moved" --tokens "$work/calibration" --out "$work/made" --resume
grep -q "nothing to do" "$work/err" || fail "a moved model is another one"

# --- the same bytes: without mpirun, from the written configuration, with activations in a file, with idle ranks ---

same_bytes() { # same_bytes RANKS OPTION...: as "$work/made"
  rm -rf "$work/again"*
  must "$1" quantize "${llama[@]}" --out "$work/again" "${@:2}"
  same_folder "$work/made" "$work/again"
}
forget
"$SHARDQ" quantize "${llama[@]}" --out "$work/made" 2>"$work/err" || { cat "$work/err"; fail "without mpirun"; }
"$SHARDQ" config >"$work/reference.yaml"
same_bytes 1 --config "$work/reference.yaml"
cp "$work/made/shardq.json" "$work/record.json"
rm -rf "$work/again"*
must 1 quantize --config "$work/record.json" --out "$work/again"
same_folder "$work/made" "$work/again"
forget
tokens "$work/calibration" 48 64 "$(vocabulary llama)" 1
must 1 quantize "${llama[@]}" --out "$work/made" --threads 1
same_bytes 1 --threads 1 --memory "$(tight_memory "$GOLDEN/llama" 48 64)"
grep -q "activations in a file" "$work/err" || fail "a small --memory did not put the activations in a file"
[ -z "$(find "$work" -name 'shardq-activations-*')" ] || fail "the file with the activations is still there"
tokens "$work/calibration" 3 24 "$(vocabulary llama)" 1
forget
must 1 quantize "${llama[@]}" --out "$work/made"
same_bytes 8 --threads 2 # 3 samples, 4 tiles of rows

# --- rules ---

cat >"$work/rules.yaml" <<'EOF'
rules:
  - {pattern: 'layers\.0\.mlp\.down_proj', bits: 8, group_size: 32}
  - {pattern: 'layers\.1\.mlp', skip: true}
EOF
forget
ruled=("${llama[@]}" --config "$work/rules.yaml" --skip o_proj --skip 'mlp.down_prj' --skip lm_head
  --skip 'layers\.[01]\.self_attn\.o_proj$' --bits 3)
cat >"$work/warnings" <<EOF
shardq: warning: [rank 0] rule "mlp.down_prj" matches no linear layer of $GOLDEN/llama; the first is called model.layers.0.self_attn.q_proj
shardq: warning: [rank 0] rule "layers\.[01]\.self_attn\.o_proj\$" has no effect: earlier rules match all its layers, the first (model.layers.0.self_attn.o_proj) "o_proj"
EOF
for resume in --no-resume --resume; do # the second time all layers are done
  must 2 quantize "${ruled[@]}" --out "$work/made" $resume
  grep 'warning: .*rule ' "$work/err" | cmp - "$work/warnings" || { cat "$work/err"; fail "not the warnings of one misspelt and one hidden rule"; }
done
must 1 inspect "$work/made.store.h5" --json
python3 - "$work/stdout" <<'EOF'
import json, sys
layers = {l["name"].removeprefix("model.layers."): (l["bits"], l["group_size"]) for l in json.load(open(sys.argv[1]))["layers"]}
wanted = {f"{b}.self_attn.{p}_proj": (3, 64) for b in (0, 1) for p in "qkv"}
wanted |= {"0.mlp.gate_proj": (3, 64), "0.mlp.up_proj": (3, 64), "0.mlp.down_proj": (8, 32)}
sys.exit(0 if layers == wanted else f"FAIL: the rules came to {layers}")
EOF
must 2 assemble --store "$work/made.store.h5" --out "$work/plain" --dequantized
tokens "$work/eval" 3 24 "$(vocabulary llama)" 2
near "$(nll "$work/made")" "$(nll "$work/plain")" 1e-3 "nll with rules" # the plain one rounds to F16

# --- warnings: fewer tokens than inputs; other warnings, with --strict ---

forget
tokens "$work/few" 1 64 "$(vocabulary llama)" 1
few=(quantize --model "$GOLDEN/llama" --tokens "$work/few" --no-assemble --threads 1)
must 1 "${few[@]}" --out "$work/made"
grep -q "warning: $work/few: 64 tokens are fewer than the inputs of 2 of 14 layers, the widest model.layers.0.mlp.down_proj with 128: " \
  "$work/err" || { cat "$work/err"; fail "no warning of few tokens"; }
grep -q "warnings  *1;.* 2 of 14" "$work/err" || { cat "$work/err"; fail "the summary does not count few tokens"; }
expect 1 2 "${few[@]}" --out "$work/again" --strict
expect_message "--strict: there were warnings: layers: 2 of 14 (fewer tokens than inputs: 2)"
must 2 "${few[@]}" --out "$work/again" --resume
expect 1 2 "${few[@]}" --out "$work/again" --resume --strict
expect_message "--strict: there were warnings: layers: 2 of 14 (fewer tokens than inputs: 2; of an earlier run: 2)"
expect 1 2 "${few[@]}" --out "$work/again2" --strict --skip misspelt
expect_message "--strict: there were warnings: layers: 2 of 14 (fewer tokens than inputs: 2), rules without effect: 1"
must 1 "${few[@]}" --out "$work/again1" --solver rtn --strict
forget
expect 1 2 "${few[@]}" --out "$work/made" --solver rtn --strict --skip misspelt
expect_message "--strict: there were warnings: rules without effect: 1"

# --- warnings: tokens that another tokenizer has made ---

warns_of_tokenizer() { # warns_of_tokenizer COUNT ARGS...
  must 2 "${@:2}"
  [ "$(grep -c "warning: .*$work/made-by: its tokens were made with another tokenizer than .*/tokenizer.json (XXH3 " "$work/err")" -eq "$1" ] ||
    { cat "$work/err"; fail "not $1 warnings of another tokenizer: ${*:2}"; }
}
forget
made_by=(quantize --model "$GOLDEN/llama" --tokens "$work/made-by" --threads 1)
tokens "$work/made-by" 6 24 "$(vocabulary llama)" 1 5dad45355b8fbb95 # as test_tokenize.py has it
warns_of_tokenizer 0 "${made_by[@]}" --out "$work/made" --strict
warns_of_tokenizer 0 eval --model "$work/made" --tokens "$work/made-by"
tokens "$work/made-by" 6 24 "$(vocabulary llama)" 1 0123456789abcdef
warns_of_tokenizer 1 "${made_by[@]}" --out "$work/again1"
grep -q '^  warnings  *1;' "$work/err" || { cat "$work/err"; fail "the summary does not count it"; }
expect 1 1 "${made_by[@]}" --out "$work/again2" --strict
expect_message "--strict: there were warnings: tokens of another tokenizer: 1"
tokens "$work/made-by" 6 24 "$(vocabulary llama)" 1 5DAD # no hash of any tokenizer
warns_of_tokenizer 2 eval --model "$work/made" --against "$GOLDEN/llama" --tokens "$work/made-by"
warns_of_tokenizer 1 verify --model "$GOLDEN/llama" --checkpoint "$work/made" --tokens "$work/made-by"
cp -r "$GOLDEN/llama" "$work/again-model"
rm "$work/again-model/tokenizer.json"
warns_of_tokenizer 0 eval --model "$work/again-model" --tokens "$work/made-by"
ln -s tokenizer.json "$work/again-model/tokenizer.json" # to itself
expect 1 2 eval --model "$work/again-model" --tokens "$work/made-by"
expect_message "again-model/tokenizer.json: Too many levels of symbolic links"

# --- warnings: an input that is zero in every token ---

forget
poke "$work/smollm2/model.safetensors" model.layers.0.input_layernorm.weight '\0000\0000\0000\0000'
tokens "$work/enough" 6 24 "$(vocabulary smollm2)" 1
job=(quantize --model "$work/smollm2" --tokens "$work/enough")
must 2 "${job[@]}" --out "$work/made"
grep -q "warning: .*q_proj: 1 inputs were zero" "$work/err" || fail "no warning of a dead input"
grep -q "warnings  *3;.* 3 of 14" "$work/err" || { cat "$work/err"; fail "the summary does not count the warnings"; }
expect 1 2 "${job[@]}" --out "$work/again" --strict --log "$work/log"
expect_message "--strict: there were warnings: layers: 3 of 14 (dead inputs: 3)"
same_folder "$work/made" "$work/again"
[ "$(grep -c '"event":"layer"' "$work/log")" -eq 14 ] || fail "the log does not have 14 layers"
python3 - "$work/log" "$work/err" <<'EOF'
import json, re, sys
events = [json.loads(line) for line in open(sys.argv[1])]
end, layers = events[-1], [event for event in events if event["event"] == "layer"]
text = open(sys.argv[2]).read()
shown = {name: float(value) for name, value in re.findall(r"(\w+) ([\d.]+)(?:,|$)", re.search(r"^  time .* s: (.*)$", text, re.M)[1])}
worst = [(layer["name"], layer["error"]) for layer in sorted(layers, key=lambda layer: -layer["error"])[:3]]
rows = sum(layer["out_features"] for layer in layers)
rounds = sum(layer["rounds"] * layer["out_features"] for layer in layers) / rows
bits = float(re.search(r"weights at ([\d.]+) bits each", text)[1])
good = {
    "event": end["event"] == "end" and events[0]["event"] == "start" and len(events) == 2 + len(layers),
    "layers": end["layers"] == len(layers) and end["flagged"] == 3 and end["warnings"] == 3 and "experts" not in end,
    "weights": end["weights"] == sum(layer["out_features"] * layer["in_features"] for layer in layers),
    "bits": abs(end["bits_per_weight"] - bits) <= 0.0006,
    "stages": end["stages"].keys() == shown.keys() and all(abs(end["stages"][s] - shown[s]) <= 0.0051 for s in shown),
    "rounds": end["rounds"] > 0 and abs(end["rounds"] - rounds) <= 1e-4 * rounds,
    "worst": [(layer["name"], layer["error"]) for layer in end["worst"]] == worst,
    "bytes": end["bytes_before"] > end["bytes_after"] > 0,
}
sys.exit(0 if all(good.values()) else f"FAIL: the log's end: {[name for name in good if not good[name]]} of {end}")
EOF
expect 1 1 "${job[@]}" --out "$work/again" --strict --resume
expect_message "--strict: there were warnings: layers: 3 of 14 (dead inputs: 3; of an earlier run: 3)"

# --- warnings: scales that F16 does not hold, too large in one layer and too small in another ---

forget
poke "$work/smollm2/model.safetensors" model.layers.0.mlp.up_proj.weight '\0050\0153\0156\0116'                  # 1e9
poke "$work/smollm2/model.safetensors" model.layers.1.self_attn.k_proj.weight "$(repeat 48 '\0137\0160\0211\0060')" # a row of 1e-9
must 2 "${job[@]}" --out "$work/made"
[ "$(grep -c "warning: .*\.\(up\|k\)_proj: 1 scales are too large or too small for type F16" "$work/err")" -eq 2 ] ||
  { cat "$work/err"; fail "no warning of scales that do not fit"; }
expect 1 2 "${job[@]}" --out "$work/again" --strict --log "$work/log"
grep -q '"name":"model.layers.0.mlp.up_proj".*"limited":1,' "$work/log" || fail "the log does not say so"
expect 0 1 "${job[@]}" --out "$work/again3" --scale-dtype bf16
! grep -q "scales are too" "$work/err" || fail "a warning of scales that fit"

# scales that F16 holds, but not the weights that they stand for: no infinity goes out as a weight
forget
cp -r "$GOLDEN/llama" "$work/large" # its weights are F16
for shard in "$work"/large/*.safetensors; do
  grep -q layers.0.mlp.up_proj "$shard" && poke "$shard" model.layers.0.mlp.up_proj.weight '\0377\0173' # 65504
done
tokens "$work/calibration" 6 24 "$(vocabulary llama)" 1
must 2 quantize --model "$work/large" --tokens "$work/calibration" --out "$work/made"
expect 1 2 assemble --store "$work/made.store.h5" --out "$work/plain" --dequantized
expect_message "tensor model.layers.0.mlp.up_proj.weight: value inf in row 0, column 0"
[ ! -e "$work/plain" ] || fail "a checkpoint with an infinity"

# --- plan and inspect ---

must 1 plan --model "$GOLDEN/llama" --ranks 1,8,64 --samples 128 --length 256 --json
awk -F'[:,]' '{ ranks = ranks $2 " "; bad += NR > 1 && $4 > last; last = $4 } END { exit !(ranks == "1 8 64 " && last > 0 && !bad) }' \
  "$work/stdout" || { cat "$work/stdout"; fail "plan: more ranks take more memory each"; }
kind() { # kind PATH KIND
  must 1 inspect "$1"
  grep -q "^kind  *$2\$" "$work/stdout" || fail "inspect $1 does not say $2"
}
kind "$GOLDEN/opt" model
kind "$work/eval" tokens
kind "$work/made.store.h5" store
kind "$work/made" checkpoint
