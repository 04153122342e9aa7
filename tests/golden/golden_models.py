"""The tiny models that make_golden.py makes: one or several of every family, as small as they can be and as odd as the family
allows."""

EXTRA = {"bos_token_id": 1, "eos_token_id": 2}
DECODER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
           "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5, "max_position_embeddings": 256,
           "rope_theta": 10000.0, "tie_word_embeddings": False, "vocab_size": 128, **EXTRA}
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **DECODER,
         "attention_bias": False, "mlp_bias": False}
LLAMA3_ROPE = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}

# The other families, as small as they can be: two blocks, 32 wide.
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 64, "vocab_size": 104, **EXTRA}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 104, "layer_norm_epsilon": 1e-5, **EXTRA}
FALCON = {"architectures": ["FalconForCausalLM"], "model_type": "falcon", "hidden_size": 32, "num_hidden_layers": 2,
          "num_attention_heads": 4, "vocab_size": 104, "alibi": False, "parallel_attn": True, "layer_norm_epsilon": 1e-5,
          "hidden_dropout": 0.0, "attention_dropout": 0.0, **EXTRA}
PHI3 = {"architectures": ["Phi3ForCausalLM"], "model_type": "phi3", **TINY, "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False, "pad_token_id": 0}

GEMMA = {**TINY, "num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
         "attention_bias": False, "pad_token_id": 0}
COHERE = {**TINY, "num_key_value_heads": 2, "hidden_act": "silu", "layer_norm_eps": 1e-5, "rope_theta": 8000.0,
          "attention_bias": False, "pad_token_id": 0}
STABLELM = {"architectures": ["StableLmForCausalLM"], "model_type": "stablelm", **TINY, "num_key_value_heads": 2,
            "hidden_act": "silu", "layer_norm_eps": 1e-5, "rope_theta": 10000, "tie_word_embeddings": False}
GLM = {**TINY, "num_key_value_heads": 2, "head_dim": 16, "hidden_act": "silu", "rms_norm_eps": 1.5625e-07,
       "partial_rotary_factor": 0.5, "attention_bias": True, "tie_word_embeddings": False, "pad_token_id": 0}
MLA = {**TINY, "num_key_value_heads": 4, "kv_lora_rank": 64, "qk_nope_head_dim": 16, "qk_rope_head_dim": 32,
       "v_head_dim": 24, "n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "n_shared_experts": 2,
       "first_k_dense_replace": 1, "moe_layer_freq": 1, "hidden_act": "silu", "rms_norm_eps": 1e-5, "tie_word_embeddings": False}

MOE = {**TINY, "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
       "tie_word_embeddings": False, "num_experts_per_tok": 2}
MIXTRAL = {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", **MOE, "intermediate_size": 32,
           "num_local_experts": 4, "sliding_window": None, "router_jitter_noise": 0.0, "pad_token_id": 0}
QWEN_MOE = {**MOE, "moe_intermediate_size": 32, "use_sliding_window": False, "max_window_layers": 2, "pad_token_id": 0}
GPT_OSS = {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", **MOE, "intermediate_size": 48, "head_dim": 16,
           "rope_theta": 1000, "rope_scaling": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8,
                                                "beta_fast": 2.0, "beta_slow": 0.5, "truncate": False},
           "attention_bias": True, "sliding_window": 5, "layer_types": ["sliding_attention", "full_attention"],
           "num_local_experts": 5, "swiglu_limit": 7.0, "pad_token_id": 0}
MXFP4 = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router",
                                                             "model.embed_tokens", "lm_head"]}
DEEPSEEK2 = {"architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2", **MLA,
             "scoring_func": "softmax", "norm_topk_prob": False}
DEEPSEEK3 = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", **MLA, "rope_theta": 100,
             "q_lora_rank": 32, "n_routed_experts": 12, "n_group": 3, "topk_group": 2, "num_experts_per_tok": 3,
             "scoring_func": "sigmoid", "topk_method": "noaux_tc", "norm_topk_prob": True, "routed_scaling_factor": 2.5,
             "num_nextn_predict_layers": 0}
DEEPSEEK_ROPE = {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8, "beta_fast": 2, "beta_slow": 0.5}

# name: (config.json, sample length, stored dtype, number of files)
# Configurations use the keys that published checkpoints have (rope_theta, rope_scaling, torch_dtype); "llama3_parameters"
# and "mistral" use those that transformers 5 writes (rope_parameters, dtype).
MODELS = {
    "llama": ({**LLAMA, "num_key_value_heads": 4, "pretraining_tp": 1, "rope_scaling": None}, 32, "float16", 3),
    "llama3": ({**LLAMA, "rope_theta": 500000.0, "rope_scaling": LLAMA3_ROPE, "tie_word_embeddings": True},
               48, "bfloat16", 1),
    "llama3_parameters": ({**{k: v for k, v in LLAMA.items() if k != "rope_theta"}, "hidden_size": 32,
                           "intermediate_size": 64, "head_dim": 16, "num_attention_heads": 2,
                           "num_key_value_heads": 1, "rope_parameters": {**LLAMA3_ROPE, "rope_theta": 10000.0}},
                          48, "bfloat16", 1),
    "llama_head_dim": ({**LLAMA, "head_dim": 32, "num_attention_heads": 4, "num_key_value_heads": 1,
                        "vocab_size": 112}, 24, "bfloat16", 1),
    "llama_ffn172": ({**LLAMA, "intermediate_size": 172, "tie_word_embeddings": True}, 24, "float16", 1),
    "llama_bias": ({**LLAMA, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2,
                    "num_key_value_heads": 1, "attention_bias": True, "mlp_bias": True}, 24, "float32", 1),
    "mistral": ({"architectures": ["MistralForCausalLM"], "model_type": "mistral",
                 **{k: v for k, v in DECODER.items() if k != "rope_theta"}, "head_dim": 16, "sliding_window": 12,
                 "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}, 40, "bfloat16", 1),
    "qwen2": ({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **DECODER, "rope_theta": 1000000.0,
               "rms_norm_eps": 1e-6, "use_sliding_window": False, "sliding_window": 16, "max_window_layers": 2,
               "tie_word_embeddings": True, "vocab_size": 160}, 40, "bfloat16", 1),
    "qwen3": ({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", **DECODER, "head_dim": 32,
               "num_attention_heads": 4, "num_key_value_heads": 1, "rms_norm_eps": 1e-6, "attention_bias": False,
               "rope_scaling": None, "use_sliding_window": False, "sliding_window": None}, 40, "bfloat16", 1),
    "smollm2": ({**LLAMA, "hidden_size": 48, "intermediate_size": 128, "num_attention_heads": 3,
                 "num_key_value_heads": 1, "rope_theta": 100000.0, "tie_word_embeddings": True,
                 "rope_interleaved": False}, 40, "float32", 1),
    "opt": ({"architectures": ["OPTForCausalLM"], "model_type": "opt", "hidden_size": 64, "ffn_dim": 128,
             "num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 64, "vocab_size": 128,
             "max_position_embeddings": 64, "activation_function": "relu", "do_layer_norm_before": True,
             "enable_bias": True, "layer_norm_elementwise_affine": True, "tie_word_embeddings": True,
             "dropout": 0.0, "attention_dropout": 0.0, "layerdrop": 0.0, "pad_token_id": 1, "bos_token_id": 2,
             "eos_token_id": 2, "prefix": "</s>"}, 40, "float16", 1),
    "opt_untied": ({"architectures": ["OPTForCausalLM"], "model_type": "opt", "hidden_size": 32, "ffn_dim": 64,
                    "num_hidden_layers": 2, "num_attention_heads": 2, "word_embed_proj_dim": 32, "vocab_size": 128,
                    "max_position_embeddings": 64, "activation_function": "relu", "do_layer_norm_before": True,
                    "tie_word_embeddings": False, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2},
                   24, "float32", 1),
    # angles: of a context longer than the original one, and of samples longer than max_position_embeddings
    "qwen2_yarn": ({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **TINY, "num_key_value_heads": 2,
                    "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 100.0, "use_sliding_window": False,
                    "max_window_layers": 2, "tie_word_embeddings": False, "rope_scaling": {
                        "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}}, 40, "bfloat16", 1),
    "llama_dynamic": ({**LLAMA, **TINY, "num_key_value_heads": 2, "max_position_embeddings": 16, "rope_theta": 100.0,
                       "rope_scaling": {"rope_type": "dynamic", "factor": 3.0}}, 40, "bfloat16", 1),
    # 8-bit weights: in blocks that neither dimension is a multiple of, and with one scale for a tensor or a row
    "llama_fp8_block": ({**LLAMA, "quantization_config": {
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [24, 40]}},
        24, "bfloat16", 1),
    "llama_fp8_tensor": ({**LLAMA, "tie_word_embeddings": True, "quantization_config": {
        "quant_method": "compressed-tensors", "format": "float-quantized", "quantization_status": "compressed",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
            "num_bits": 8, "type": "float", "symmetric": True, "strategy": "tensor", "dynamic": False}}},
        "ignore": ["lm_head"]}}, 24, "bfloat16", 1),
    "bloom": ({"architectures": ["BloomForCausalLM"], "model_type": "bloom", "n_embed": 32, "n_layer": 2,
               "num_attention_heads": 4, "vocab_size": 104, "layer_norm_epsilon": 1e-5, "pretraining_tp": 1,
               "apply_residual_connection_post_layernorm": False, "pad_token_id": 3, **EXTRA}, 16, "float16", 1),
    "gpt2": ({"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", **GPT, "activation_function": "gelu_new",
              "n_inner": 64, "attn_pdrop": 0.1}, 16, "float16", 1),
    "gpt_bigcode": ({"architectures": ["GPTBigCodeForCausalLM"], "model_type": "gpt_bigcode", **GPT, "n_inner": 64,
                     "activation_function": "gelu_pytorch_tanh", "multi_query": True}, 16, "bfloat16", 1),
    "gpt_bigcode_heads": ({"architectures": ["GPTBigCodeForCausalLM"], "model_type": "gpt_bigcode", **GPT,
                           "n_inner": 64, "multi_query": False}, 16, "bfloat16", 1),
    "gpt_neox": ({"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", **TINY, "num_attention_heads": 2,
                  "hidden_act": "gelu", "rotary_pct": 0.25, "rotary_emb_base": 500, "use_parallel_residual": True,
                  "tie_word_embeddings": False, "layer_norm_eps": 1e-5}, 16, "float16", 1),
    "gpt_neox_sequential": ({"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", **TINY,
                             "hidden_act": "gelu", "use_parallel_residual": False, "tie_word_embeddings": False,
                             "attention_bias": False, "rope_parameters": {
                                 "rope_type": "default", "rope_theta": 700.0, "partial_rotary_factor": 0.5}},
                            16, "bfloat16", 1),
    "gptj": ({"architectures": ["GPTJForCausalLM"], "model_type": "gptj", **GPT, "rotary_dim": 4,
              "activation_function": "gelu_new", "n_inner": 64, "tie_word_embeddings": False}, 16, "float16", 1),
    "phi": ({"architectures": ["PhiForCausalLM"], "model_type": "phi", **TINY, "hidden_act": "gelu_new",
             "num_key_value_heads": None, "partial_rotary_factor": 0.5, "layer_norm_eps": 1e-5, "rope_theta": 10000.0,
             "qk_layernorm": False, "tie_word_embeddings": False}, 16, "float16", 1),
    "phi_norms": ({"architectures": ["PhiForCausalLM"], "model_type": "phi", **TINY, "num_key_value_heads": 2,
                   "partial_rotary_factor": 0.25, "qk_layernorm": True, "tie_word_embeddings": False},
                  16, "bfloat16", 1),
    "falcon_7b": ({**FALCON, "multi_query": True, "bias": False, "new_decoder_architecture": False},
                  16, "bfloat16", 1),
    "falcon_40b": ({**FALCON, "num_kv_heads": 2, "bias": False, "new_decoder_architecture": True,
                    "ffn_hidden_size": 64}, 16, "bfloat16", 1),
    "falcon_11b": ({**FALCON, "num_kv_heads": 2, "bias": True, "new_decoder_architecture": True,
                    "num_ln_in_parallel_attn": 1, "tie_word_embeddings": False, "ffn_hidden_size": 64,
                    "rope_theta": 500042}, 16, "bfloat16", 1),
    "phi3": ({**PHI3, "num_key_value_heads": 4, "original_max_position_embeddings": 64, "rope_scaling": None,
              "rope_theta": 10000.0, "sliding_window": 7}, 16, "bfloat16", 1),
    "phi3_long": ({**PHI3, "num_key_value_heads": 2, "original_max_position_embeddings": 12, "rope_theta": 10000.0,
                   "partial_rotary_factor": 0.75, "num_attention_heads": 2, "sliding_window": None,
                   "tie_word_embeddings": True, "rope_scaling": {
                       "type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.5, 1.6, 2.0],
                       "long_factor": [1.5, 2.0, 4.0, 5.5, 6.0, 9.0]}}, 16, "bfloat16", 1),
    "gemma": ({"architectures": ["GemmaForCausalLM"], "model_type": "gemma", **GEMMA, "hidden_act": "gelu",
               "hidden_activation": None}, 16, "bfloat16", 1),
    "gemma2": ({"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", **GEMMA, "query_pre_attn_scalar": 9,
                "hidden_activation": "gelu_pytorch_tanh", "sliding_window": 5, "attn_logit_softcapping": 1.5,
                "final_logit_softcapping": 4.0}, 16, "bfloat16", 1),
    "gemma3": ({"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", **GEMMA, "rope_theta": 1000000,
                "hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 16, "sliding_window": 5,
                "sliding_window_pattern": 2, "rope_local_base_freq": 500, "rope_scaling": {
                    "rope_type": "linear", "factor": 8.0}}, 16, "bfloat16", 1),
    "gemma3_types": ({"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text",
                      **{k: v for k, v in GEMMA.items() if k != "rope_theta"}, "query_pre_attn_scalar": 16,
                      "sliding_window": 5, "layer_types": ["full_attention", "sliding_attention"], "rope_parameters": {
                          "full_attention": {"rope_type": "default", "rope_theta": 3000.0},
                          "sliding_attention": {"rope_type": "default", "rope_theta": 200.0}}}, 16, "bfloat16", 1),
    "cohere": ({"architectures": ["CohereForCausalLM"], "model_type": "cohere", **COHERE, "logit_scale": 0.3,
                "use_qk_norm": True}, 16, "float16", 1),
    "cohere2": ({"architectures": ["Cohere2ForCausalLM"], "model_type": "cohere2", **COHERE, "logit_scale": 0.25,
                 "sliding_window": 5, "sliding_window_pattern": 2}, 16, "bfloat16", 1),
    "stablelm": ({**STABLELM, "use_qkv_bias": True, "partial_rotary_factor": 0.25}, 16, "float16", 1),
    "stablelm_parallel": ({**STABLELM, "use_parallel_residual": True, "qk_layernorm": True,
                           "partial_rotary_factor": 0.5}, 16, "bfloat16", 1),
    "internlm2": ({"architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", **TINY, "bias": True,
                   "num_key_value_heads": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 1000000,
                   "rope_scaling": {"type": "dynamic", "factor": 2.0}, "tie_word_embeddings": False},
                  16, "bfloat16", 1),
    "glm": ({"architectures": ["GlmForCausalLM"], "model_type": "glm", **GLM}, 16, "bfloat16", 1),
    "glm4": ({"architectures": ["Glm4ForCausalLM"], "model_type": "glm4", **GLM, "num_attention_heads": 2}, 16,
             "bfloat16", 1),
    "olmo2": ({"architectures": ["Olmo2ForCausalLM"], "model_type": "olmo2", **TINY, "num_key_value_heads": 2,
               "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 500000, "attention_bias": False,
               "tie_word_embeddings": False, "pad_token_id": 0}, 16, "float16", 1),
    "granite": ({"architectures": ["GraniteForCausalLM"], "model_type": "granite", **TINY, "num_key_value_heads": 2,
                 "hidden_act": "silu", "rms_norm_eps": 1e-5, "embedding_multiplier": 3.0, "attention_multiplier": 0.2,
                 "residual_multiplier": 0.45, "logits_scaling": 1.7, "attention_bias": True, "mlp_bias": False,
                 "tie_word_embeddings": True}, 16, "bfloat16", 1),
    # bases with which no choice of experts is so close that bf16 makes another
    "deepseek_v2_lite": ({**DEEPSEEK2, "rope_theta": 50, "q_lora_rank": None, "topk_method": "greedy", "n_group": 1,
                          "topk_group": 1, "routed_scaling_factor": 1.0}, 16, "bfloat16", 1),
    "deepseek_v2": ({**DEEPSEEK2, "rope_theta": 500000, "q_lora_rank": 32, "topk_method": "group_limited_greedy",
                     "n_group": 4, "topk_group": 2, "num_experts_per_tok": 3, "routed_scaling_factor": 4.0,
                     "rope_scaling": {**DEEPSEEK_ROPE, "mscale": 0.7, "mscale_all_dim": 0.7}}, 16, "bfloat16", 1),
    "deepseek_v3": ({**DEEPSEEK3, "rope_theta": 4000, "rope_scaling": {
        **DEEPSEEK_ROPE, "mscale": 1.0, "mscale_all_dim": 1.0}}, 16, "bfloat16", 1),
    "deepseek_v3_dense": ({**DEEPSEEK3, "first_k_dense_replace": 3, "rope_interleave": False, "attention_bias": True,
                           "rope_scaling": {**DEEPSEEK_ROPE, "mscale": 0.7, "mscale_all_dim": 1.3}}, 24, "bfloat16", 1),
    # as DeepSeek publishes V3: 8-bit weights, and a layer more that predicts the token after the next
    "deepseek_v3_fp8": ({**DEEPSEEK3, "num_nextn_predict_layers": 1, "norm_topk_prob": False, "quantization_config": {
        "quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [24, 40]}},
        16, "bfloat16", 1),
    # "..._fused": experts in the fused tensors that transformers has in memory; else one tensor each, as published
    "mixtral": ({**MIXTRAL}, 16, "bfloat16", 1),
    "mixtral_fused": ({**MIXTRAL, "sliding_window": 7, "num_local_experts": 5, "head_dim": 16}, 16, "float32", 1),
    "qwen2_moe": ({"architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe", **QWEN_MOE, "num_experts": 5,
                   "shared_expert_intermediate_size": 64, "decoder_sparse_step": 2, "mlp_only_layers": [],
                   "norm_topk_prob": False}, 16, "bfloat16", 1),
    "qwen3_moe": ({"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", **QWEN_MOE, "head_dim": 16,
                   "num_experts": 6, "decoder_sparse_step": 1, "mlp_only_layers": [1], "norm_topk_prob": True,
                   "attention_bias": False}, 16, "bfloat16", 1),
    "qwen3_moe_fused": ({"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", **QWEN_MOE,
                         "head_dim": 16, "num_experts": 5, "norm_topk_prob": True, "num_experts_per_tok": 1,
                         "tie_word_embeddings": True}, 16, "bfloat16", 1),
    "gpt_oss": ({**GPT_OSS}, 24, "bfloat16", 1),
    "gpt_oss_mxfp4": ({**GPT_OSS, "hidden_size": 64, "intermediate_size": 96, "num_local_experts": 6,
                       "quantization_config": MXFP4}, 24, "bfloat16", 1),
    "olmoe": ({"architectures": ["OlmoeForCausalLM"], "model_type": "olmoe", **MOE, "intermediate_size": 32,
               "num_experts": 6, "norm_topk_prob": False, "clip_qkv": None}, 16, "float16", 1),
}
