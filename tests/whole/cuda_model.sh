#!/usr/bin/env bash
# The first blocks of SmolLM2-135M on devices, real ones or those of the stand-in for CUDA: the errors of its layers and its
# perplexity are those that the CPU finds. Where the demo's model is not in .cache, a seeded one of the same shape.
# BLOCKS (3): how many; 30 are the whole model.
. "$(dirname "$0")/cuda_common.sh"
here=$(dirname "$0")
top=$(cd "$here/../.." && pwd)
blocks=${BLOCKS:-3}
export CUDASIM_DEVICES=2
python=$top/.venv/bin/python3
[ -x "$python" ] || python=python3
"$python" -c 'import numpy, h5py' 2>/dev/null || { echo "skipped: no Python modules"; exit 77; }

need_device
options=(--threads 1 --compute fp32)
is_stand_in || options+=(--share-device) # there may be one device only

real_model() {
  "$python" "$top/tests/bench/cut_model.py" "$top/.cache/smollm2" "$blocks" "$work/model"
  local tokenize=("$SHARDQ" tokenize --model "$work/model" --length 64)
  "${tokenize[@]}" --text "$top/README.md" "$top/docs/tutorial.md" --samples 24 --out "$work/tokens" >"$work/stdout" 2>&1
  "${tokenize[@]}" --text "$top/docs/method.md" --windows --samples 4 --out "$work/eval" >"$work/stdout" 2>&1
}

seeded_model() {
  PYTHONPATH=$top/tests/bench "$python" - "$work/model" "$blocks" <<'EOF'
import sys
import plan_models
shape = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3,
         "num_hidden_layers": int(sys.argv[2])}
plan_models.write_model(sys.argv[1], plan_models.LLAMA | shape, plan_models.llama_tensors, 1)
EOF
  tokens "$work/tokens" 24 64 8192 1
  tokens "$work/eval" 4 64 8192 2
}

nll() { # nll BACKEND CHECKPOINT
  must 2 eval --backend "$1" --model "$work/$2" --tokens "$work/eval" "${options[@]}" --json
  sed -n 's/.*"nll":\([^,]*\).*/\1/p' "$work/stdout"
}

if [ -e "$top/.cache/smollm2/model.safetensors" ]; then kind=SmolLM2 && real_model; else kind=seeded && seeded_model; fi
for backend in cuda cpu; do
  must 2 quantize --model "$work/model" --tokens "$work/tokens" --backend $backend --propagation original "${options[@]}" \
    --out "$work/$backend"
  echo "$kind, $blocks of its blocks, $backend:$(sed -n 's/^  time//p' "$work/err")"
  "$SHARDQ" inspect "$work/$backend.store.h5" --json >"$work/$backend.json"
done
# With the same inputs few codes differ: one that is another one moves those behind it in its row. (With --propagation quantized
# it moves the inputs of the next layers as well: 14 % differed, with the same errors.)
differ=$("$here/codes.py" "$work/cuda" "$work/cpu" 0.01) || fail "$differ"
echo "$differ"
"$python" - "$work/cuda.json" "$work/cpu.json" <<'EOF'
import json, sys
device, host = ({layer["name"]: layer["error"] for layer in json.load(open(path))["layers"]} for path in sys.argv[1:])
worst = max((abs(device[name] / host[name] - 1), name) for name in host)
print("errors of layers differ by at most %.3f %%: %s" % (100 * worst[0], worst[1]))
sys.exit(worst[0] > 0.01 or device.keys() != host.keys())
EOF
near "$(nll cuda cuda)" "$(nll cpu cuda)" 1e-5 "nll of the devices' checkpoint, on devices and on the CPU"
near "$(nll cpu cuda)" "$(nll cpu cpu)" 0.002 "nll of the devices' checkpoint and of the CPU's"
