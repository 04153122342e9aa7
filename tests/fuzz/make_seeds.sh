#!/bin/sh
# Writes the first inputs of the libFuzzer targets: make_seeds.sh FOLDER
set -eu
out=$1
mkdir -p "$out/safetensors" "$out/config" "$out/yaml"

header='{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]}}'
printf '%s%s' "$header" 'abcdefghijkl' > "$out/safetensors/header"
{ printf "\\$(printf %o ${#header})\\0\\0\\0\\0\\0\\0\\0"; cat "$out/safetensors/header"; } > "$out/safetensors/file"
printf '\2\0\0\0\0\0\0\0{}' > "$out/safetensors/empty"

cat > "$out/config/llama" <<'JSON'
{"architectures":["LlamaForCausalLM"],"hidden_size":64,"intermediate_size":172,"num_hidden_layers":2,
 "num_attention_heads":4,"num_key_value_heads":2,"head_dim":16,"vocab_size":256,"max_position_embeddings":512,
 "rms_norm_eps":1e-5,"hidden_act":"silu","tie_word_embeddings":true,"rope_theta":10000.0,
 "rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,
 "original_max_position_embeddings":256}}
JSON
cat > "$out/config/qwen3" <<'JSON'
{"architectures":["Qwen3ForCausalLM"],"hidden_size":64,"intermediate_size":128,"num_hidden_layers":2,
 "num_attention_heads":4,"num_key_value_heads":2,"head_dim":32,"vocab_size":256,"max_position_embeddings":512,
 "rms_norm_eps":1e-6,"hidden_act":"silu","use_sliding_window":true,"sliding_window":128,"max_window_layers":1,
 "layer_types":["full_attention","sliding_attention"],"attention_bias":false,"rope_scaling":null}
JSON
cat > "$out/config/opt" <<'JSON'
{"architectures":["OPTForCausalLM"],"hidden_size":64,"ffn_dim":128,"num_hidden_layers":2,"num_attention_heads":4,
 "vocab_size":256,"max_position_embeddings":512,"activation_function":"relu","do_layer_norm_before":true,
 "word_embed_proj_dim":64,"enable_bias":true}
JSON
cat > "$out/config/gpt_oss" <<'JSON'
{"architectures":["GptOssForCausalLM"],"hidden_size":64,"intermediate_size":32,"num_hidden_layers":2,"num_attention_heads":4,
 "num_key_value_heads":2,"head_dim":16,"vocab_size":256,"max_position_embeddings":512,"num_local_experts":5,
 "num_experts_per_tok":2,"sliding_window":128,"layer_types":["sliding_attention","full_attention"],"swiglu_limit":7.0,
 "rope_theta":150000,"rope_scaling":{"rope_type":"yarn","factor":32.0,"beta_fast":32.0,"beta_slow":1.0,"truncate":false,
 "original_max_position_embeddings":64}}
JSON
printf '{"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}' > "$out/config/index"

cat > "$out/yaml/job" <<'YAML'
model: "some/folder"   # a comment
bits: 4
group_size: auto
grid: search
damping: 1e-2
memory: 1.5G
lm_head: false
rules:
  - {pattern: 'down_proj$', bits: 8, group_size: 64}
  - pattern: layers\.0\.
    skip: true
ranks: [1, 8, 64]
YAML
printf 'bits: &x 3\nrefine: *x\n---\nbits: 4\n' > "$out/yaml/alias"
printf 'model: "line\\Lseparator \\x85 \\u2029 \\U0001F600 \\t"\n' > "$out/yaml/escapes"
