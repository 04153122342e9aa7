#!/usr/bin/env -S python3 -P
"""interop_models.py FOLDER NAME...: models of tests/golden in sizes that every reader takes, for interop.py.

Writes FOLDER/NAME/ as tests/golden/make_golden.py does (weights seeded by the name, tokens.i32, logits.f32), but 128 wide
with heads of 32: vLLM's CPU attention takes no smaller heads, and readers' 4-bit kernels want multiples of 32 and whole
groups, of 128 here. Needs what make_golden.py needs."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden"))
import make_golden  # noqa: E402  (after its folder)

SIZES = {
    128: ("hidden_size", "n_embd", "n_embed", "word_embed_proj_dim", "vocab_size"),
    256: ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "moe_intermediate_size",
          "shared_expert_intermediate_size"),
    4: ("num_attention_heads", "n_head"),
    32: ("head_dim",),
    16: ("rotary_dim",),
}
# Where readers differ whatever the weights, as published models are: vLLM takes Falcon's MLP for four times as wide as the
# model and InternLM2's layers for ones without bias, and its window of Cohere 2 is one token longer; of DeepSeek it takes
# latents of the published width, turning pairs of neighbours with YaRN and layers without bias. gptqmodel leaves Qwen's
# blocks without experts at random values, and ExLlamaV2 forgets a factor of Granite where layers have a bias.
MLA = {"kv_lora_rank": 512, "qk_rope_head_dim": 64, "v_head_dim": 32}
YARN = {"type": "yarn", "factor": 8.0, "original_max_position_embeddings": 8, "beta_fast": 2, "beta_slow": 0.5,
        "mscale": 0.7, "mscale_all_dim": 0.7}
PUBLISHED = {"falcon": {"ffn_hidden_size": 512}, "internlm2": {"bias": False}, "cohere2": {"sliding_window": 64},
             "granite": {"attention_bias": False}, "qwen2_moe": {"decoder_sparse_step": 1}, "qwen3_moe": {"mlp_only_layers": []},
             "deepseek_v2": {**MLA, "rope_scaling": YARN},
             "deepseek_v3": {**MLA, "rope_scaling": YARN, "rope_interleave": True, "attention_bias": False}}
# Where a setting has an entry for each turning pair of a head.
FACTORS = ("short_factor", "long_factor")
# Of a family whose published models bring the class of their configuration with them.
REMOTE = {"internlm2": ("configuration_internlm2", "InternLM2Config")}


def enlarge(config):
    config = dict(config)
    for size, keys in SIZES.items():
        config.update({key: size for key in keys if key in config})
    if config.get("q_lora_rank"):
        config["q_lora_rank"] = 128
    scaling = config.get("rope_scaling") or {}
    if FACTORS[0] in scaling:
        pairs = int(32 * config.get("partial_rotary_factor", 1)) // 2
        config["rope_scaling"] = {**scaling, **{key: [scaling[key][0] + 0.25 * i for i in range(pairs)] for key in FACTORS}}
    return {**config, **PUBLISHED.get(config["model_type"], {})}


def add_class(folder, model_type):
    """The file with the class, and where config.json says so."""
    module, name = REMOTE[model_type]
    with open(os.path.join(folder, f"{module}.py"), "w", encoding="utf-8") as file:
        file.write("from transformers import PretrainedConfig\n\n\n"
                   f"class {name}(PretrainedConfig):\n    model_type = {model_type!r}\n")
    path = os.path.join(folder, "config.json")
    with open(path, encoding="utf-8") as file:
        config = json.load(file)
    make_golden.write_json(path, {**config, "auto_map": {"AutoConfig": f"{module}.{name}"}})


def main():
    folder, *names = sys.argv[1:]
    make_golden.SPREAD = 0.08  # layers have more inputs
    for name in names:
        config, length, dtype, n_files = make_golden.MODELS[name]
        if "num_experts_per_tok" in config:
            dtype = "float16"  # in bf16 some tokens' choice of experts is a matter of rounding
        make_golden.MODELS[name] = (enlarge(config), length, dtype, n_files)
        make_golden.make(folder, name)
        if config["model_type"] in REMOTE:
            add_class(os.path.join(folder, name), config["model_type"])


if __name__ == "__main__":
    main()
