#!/usr/bin/env bash
# Whatever is wrong with the input: one clear line, a failure on every rank of 1 and of 3, no hang, and nothing left behind.
. "$(dirname "$0")/common.sh"
source=$GOLDEN/smollm2 # one file, F32, 48 wide
new=$work/new          # where everything that a job makes would be
mkdir "$new"

# One rank of a job that keeps its exit code to itself, so that mpirun does not end the other ranks before theirs.
cat >"$work/rank" <<'EOF'
#!/bin/sh
"$SHARDQ" "$@"
echo $? >>"$CODES"
EOF
chmod +x "$work/rank"
export CODES=$work/codes

counts="1 3"
refused() { # refused EXIT_CODE TEXT COMMAND OPTION...
  local wanted=$1 text=$2 ranks codes status
  shift 2
  for ranks in $counts; do
    rm -f "$CODES"
    status=0
    timeout 60 mpirun -n "$ranks" "$work/rank" "$@" </dev/null >"$work/stdout" 2>"$work/err" || status=$?
    [ "$status" -ne 124 ] || { cat "$work/err"; fail "no end in 60 s: $*"; }
    [ "$status" -eq 0 ] || { cat "$work/err"; fail "mpirun itself ended with exit code $status: $*"; }
    codes=$(sort -u "$CODES")
    [ "$(wc -l <"$CODES") $codes" = "$ranks $wanted" ] || fail "exit codes $(tr "\n" " " <"$CODES") instead of $wanted: $*"
    expect_message "$text"
    [ -z "$(ls -A "$new")" ] || fail "left behind:" "$(ls -A "$new")" "by $*"
  done
}

quantize() { # quantize EXIT_CODE TEXT MODEL TOKENS OPTION...
  refused "$1" "$2" quantize --model "$3" --tokens "$4" --out "$new/out" --threads 1 "${@:5}"
}

# --- models: copies of one with a change that keeps its lengths ---

broken() { # broken NAME FILE SED_SCRIPT
  cp -r "$source" "$work/$1"
  LC_ALL=C sed -i "$3" "$work/$1/$2"
  ! cmp -s "$source/$2" "$work/$1/$2" || fail "nothing to change in $2 for $1"
}

poked() { # poked NAME TENSOR BYTES
  cp -r "$source" "$work/$1"
  poke "$work/$1/model.safetensors" "$2" "$3"
}
nan='\0000\0000\0300\0177' inf='\0000\0000\0200\0377' huge='\0377\0377\0177\0177'

tokens "$work/good" 8 24 128 1
tokens "$work/single" 1 24 128 1
quantize 1 "$work/absent" "$work/absent" "$work/good"
broken architecture config.json s/LlamaForCausalLM/MambaForCausalLM/
quantize 1 "'MambaForCausalLM' is not supported; known: LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM" \
  "$work/architecture" "$work/good"
broken json config.json 's/"hidden_size"/hidden_size/'
quantize 1 "json/config.json" "$work/json" "$work/good"
cp -r "$source" "$work/cut"
truncate -s -4 "$work/cut/model.safetensors"
quantize 1 "do not lie in the file's" "$work/cut" "$work/good"
mpirun -n 1 "$SHARDQ" quantize --model "$source" --tokens "$work/good" --out "$work/quantized" </dev/null 2>"$work/err" ||
  fail "a model that is whole: $(cat "$work/err")"
quantize 1 "quantized: model.layers.0.self_attn.q_proj is quantized already" "$work/quantized" "$work/good"
broken missing model.safetensors 's/"model.norm.weight"/"model.morm.weight"/'
quantize 1 "no tensor model.norm.weight" "$work/missing" "$work/good"
broken shape model.safetensors 's/"shape":\[16,48\]/"shape":[48,16]/'
quantize 1 "has shape [48, 16], the model needs [16, 48]" "$work/shape" "$work/good"
broken dtype model.safetensors 's/"dtype":"F32"/"dtype":"I32"/'
quantize 1 "has dtype I32" "$work/dtype" "$work/good"
poked nan model.layers.0.mlp.up_proj.weight "$nan"
quantize 1 "tensor model.layers.0.mlp.up_proj.weight: value nan in row 0, column 0" "$work/nan" "$work/good" --skip q_proj \
  --skip k_proj --skip v_proj --skip o_proj # the first layer to quantize
quantize 1 "model.layers.0.mlp.up_proj.weight: value nan" "$work/nan" "$work/good" --propagation original
# every row tile of it, on every rank
poked nans model.layers.0.mlp.up_proj.weight "$(repeat $((128 * 48)) "$nan")"
quantize 1 "up_proj.weight: value nan in row 0, column 0" "$work/nans" "$work/good" --threads 2 --skip attn # the first layers
quantize 1 "up_proj.weight: value nan in row 0, column 0" "$work/nans" "$work/good" --threads 2 --skip 'layers\.0'
poked inf model.layers.0.input_layernorm.weight "$inf"
quantize 1 "tensor model.layers.0.input_layernorm.weight: value -inf" "$work/inf" "$work/good"
poked norm model.norm.weight "$nan" # which only the checkpoint needs: the store is complete
quantize 1 "tensor model.norm.weight: value nan in row 0, column 0" "$work/norm" "$work/good" --store "$work/norm.h5" --resume
# one sample, so that one rank alone meets it; several, so that every rank does
poked huge model.layers.0.input_layernorm.weight "$huge"
for samples in single good; do
  for propagation in quantized original; do
    quantize 1 "block 1/2: the input of self_attn.q_proj of sample 0 is NaN or infinite" "$work/huge" "$work/$samples" \
      --propagation "$propagation"
  done
done

# --- experts ---

changed() { # changed NAME MODEL SED_SCRIPT: a copy of a golden model with a change in the header of its weights
  cp -r "$GOLDEN/$2" "$work/$1"
  LC_ALL=C sed -i "$3" "$work/$1/model.safetensors"
  ! cmp -s "$GOLDEN/$2/model.safetensors" "$work/$1/model.safetensors" || fail "nothing to change for $1"
}
tokens "$work/moe" 8 14 104 1
changed lost olmoe 's/"model.layers.1.mlp.experts.2.up_proj.weight"/"model.layers.1.mlp.experts.2.uq_proj.weight"/'
quantize 1 "model.layers.1.mlp.experts.2.up_proj has neither weight" "$work/lost" "$work/moe"
changed turned mixtral_fused 's/"shape":\[5,64,32\]/"shape":[5,32,64]/'
quantize 1 "mlp.experts.gate_up_proj has shape [5, 32, 64], which does not go with" "$work/turned" "$work/moe"
changed odd mixtral_fused 's/"shape":\[5,64,32\]/"shape":[64,5,32]/'
quantize 1 "an even number of outputs" "$work/odd" "$work/moe"
changed flat mixtral_fused 's/"shape":\[5,32,32\]/"shape":[160, 32]/'
quantize 1 "mlp.experts.down_proj has 2 dimensions" "$work/flat" "$work/moe"

# --- tokens ---

quantize 1 "$work/absent" "$source" "$work/absent"
tokens "$work/range" 8 24 1000 1
quantize 1 "is not in the vocabulary of 128 ids" "$source" "$work/range"
tokens "$work/empty" 0 24 128 1
quantize 1 "is empty" "$source" "$work/empty"
tokens "$work/long" 2 257 128 1
quantize 1 "longer than the model's 256 positions" "$source" "$work/long"
quantize 1 "as an HDF5 file" "$source" "$source/config.json"
mkfifo "$work/fifo" # which nobody writes to
quantize 1 "$work/fifo as an HDF5 file: it is no regular file" "$source" "$work/fifo"
refused 1 "$work/fifo as an HDF5 file: it is no regular file" inspect "$work/fifo"
expect 0 1 quantize --model "$source" --tokens "$work/good" --out "$work/made" --threads 1
quantize 1 "made.store.h5:/tokens" "$source" "$work/made.store.h5"

# --- settings ---

echo 'bitz: 3' >"$work/unknown.yaml"
quantize 2 "unknown.yaml:1: unknown key bitz; did you mean bits?" "$source" "$work/good" --config "$work/unknown.yaml"
quantize 2 "--bits" "$source" "$work/good" --bits 5
quantize 2 "gptq" "$source" "$work/good" --asymmetric --format gptq
quantize 2 "48 does not divide the 128 inputs of model.layers.0.mlp.down_proj; sizes that fit every layer: -1" \
  "$source" "$work/good" --group-size 48
quantize 2 "1.0 MiB: weights" "$source" "$work/good" --memory 1M
quantize 2 "lm-head" "$source" "$work/good" --lm-head # its output layer is tied

# --- places to write ---

quantize 1 "$work/absent/out" "$source" "$work/good" --out "$work/absent/out"
quantize 1 "$work/good/out" "$source" "$work/good" --out "$work/good/out" --store "$new/store.h5"
quantize 1 "$work/absent/store.h5" "$source" "$work/good" --store "$work/absent/store.h5"
quantize 1 "$work/absent/log" "$source" "$work/good" --log "$work/absent/log"
quantize 2 "--resume" "$source" "$work/good" --out "$work/made"
quantize 2 "--resume" "$source" "$work/good" --store "$work/made.store.h5"
for log in out.tmp out.tmp.lock out.store.h5.lock out.store.h5.state; do # the program's own names
  quantize 2 "and --log are the same: $new/$log" "$source" "$work/good" --log "$new/$log"
done
ln -s "$source" "$work/model-link"
quantize 2 "--trace is in --model, which is only read: $work/model-link/trace" "$source" "$work/good" --trace "$work/model-link/trace"
cp "$work/good" "$work/mine.store.h5.tmp"
quantize 2 "the unfinished store and --tokens are the same" "$source" "$work/mine.store.h5.tmp" --out "$work/mine"
cmp "$work/good" "$work/mine.store.h5.tmp" || fail "the token file has gone"
ln -s nowhere "$work/dangling"
mkdir "$work/foreign" "$work/taken.tmp"
touch "$work/foreign/file" "$work/taken.tmp/file"
quantize 2 "dangling exists" "$source" "$work/good" --out "$work/dangling" --store "$new/store.h5"
for out in dangling foreign single; do # before there is a layer, which a store would be left for
  quantize 2 "$out is there and was not assembled from this store" "$source" "$work/good" --out "$work/$out" \
    --store "$new/store.h5" --resume
done
mkdir "$work/taken"
quantize 2 "taken.tmp is there and is not a folder that shardq left" "$source" "$work/good" --out "$work/taken" \
  --store "$new/store.h5" --resume
[ -L "$work/dangling" ] && [ -e "$work/foreign/file" ] && [ -e "$work/taken.tmp/file" ] || fail "a refused --out has gone"

# --- the other commands ---

refused 1 "no tensor model.norm.weight" eval --model "$work/missing" --tokens "$work/good"
refused 1 "is not in the vocabulary" eval --model "$source" --tokens "$work/range"
refused 1 "vocabularies have different sizes: 128 and 112" eval --model "$source" --tokens "$work/good" --against "$GOLDEN/llama_head_dim"
tokens "$work/short" 3 1 128 1
refused 1 "samples of 1 token leave nothing to predict" eval --model "$source" --tokens "$work/short"
refused 1 "up_proj.weight: value nan in row 0, column 0" eval --model "$work/nans" --tokens "$work/good" --threads 2
refused 1 "up_proj.weight: value nan in row 0, column 0" verify --model "$work/nans" --checkpoint "$work/made" --tokens "$work/good"
refused 1 "block 1/2: the input of self_attn.q_proj of sample 0 is" eval --model "$work/huge" --tokens "$work/good"
refused 1 "their linear layers differ" verify --model "$GOLDEN/llama" --checkpoint "$work/made" --tokens "$work/good"
refused 1 "$work/fifo" assemble --store "$work/fifo" --out "$new/out"
refused 1 "HDF5" assemble --store "$source/config.json" --out "$new/out"
refused 2 "is there already" assemble --store "$work/made.store.h5" --out "$work/made"
refused 1 "$work/absent/out" assemble --store "$work/made.store.h5" --out "$work/absent/out"
refused 1 "$work/absent" inspect "$work/absent"
echo "every refusal is one line, on every rank"
