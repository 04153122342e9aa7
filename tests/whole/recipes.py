#!/usr/bin/env python3
"""recipes.py SHARDQ [--write]: plans every recipe of configs/ for a model of the size it is meant for, and compares what comes
out with the "Plan" in the recipe's comment, and the plans that docs/planning.md and README.md show with what is printed now; --write
puts them there.
Plans need config.json alone, so models are dimensions, as published with each."""

import json
import os
import re
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LLAMA = {"architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 500000.0,
         "tie_word_embeddings": False, "vocab_size": 128256, "max_position_embeddings": 8192, "torch_dtype": "bfloat16"}
MODELS = {
    "Llama-3-8B": {**LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
                   "num_key_value_heads": 8, "num_hidden_layers": 32},
    "Llama-3-70B": {**LLAMA, "hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64,
                    "num_key_value_heads": 8, "num_hidden_layers": 80},
    "SmolLM2-1.7B": {**LLAMA, "hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32,
                     "num_key_value_heads": 32, "num_hidden_layers": 24, "vocab_size": 49152, "rope_theta": 130000.0,
                     "tie_word_embeddings": True},
    "OPT-175B": {"architectures": ["OPTForCausalLM"], "activation_function": "relu", "do_layer_norm_before": True,
                 "hidden_size": 12288, "ffn_dim": 49152, "num_attention_heads": 96, "num_hidden_layers": 96,
                 "max_position_embeddings": 2048, "word_embed_proj_dim": 12288, "vocab_size": 50272,
                 "tie_word_embeddings": True, "torch_dtype": "float16"},
    "Qwen3-235B-A22B": {"architectures": ["Qwen3MoeForCausalLM"], "hidden_act": "silu", "hidden_size": 4096,
                        "num_hidden_layers": 94, "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536,
                        "intermediate_size": 12288, "num_attention_heads": 64, "num_key_value_heads": 4, "head_dim": 128,
                        "vocab_size": 151936, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "norm_topk_prob": True,
                        "decoder_sparse_step": 1, "mlp_only_layers": [], "max_position_embeddings": 40960,
                        "tie_word_embeddings": False, "torch_dtype": "bfloat16"},
    "DeepSeek-V3": {"architectures": ["DeepseekV3ForCausalLM"], "hidden_act": "silu", "hidden_size": 7168, "intermediate_size": 18432,
                    "moe_intermediate_size": 2048, "num_hidden_layers": 61, "first_k_dense_replace": 3, "moe_layer_freq": 1,
                    "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4,
                    "topk_method": "noaux_tc", "scoring_func": "sigmoid", "norm_topk_prob": True, "routed_scaling_factor": 2.5,
                    "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536, "kv_lora_rank": 512,
                    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 129280, "rms_norm_eps": 1e-6,
                    "rope_theta": 10000, "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0,
                                                          "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096},
                    "max_position_embeddings": 163840, "num_nextn_predict_layers": 1, "tie_word_embeddings": False,
                    "quantization_config": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic",
                                            "weight_block_size": [128, 128]}, "torch_dtype": "bfloat16"},
    "gpt-oss-120b": {"architectures": ["GptOssForCausalLM"], "hidden_act": "silu", "hidden_size": 2880, "intermediate_size": 2880,
                     "num_hidden_layers": 36, "num_local_experts": 128, "num_experts_per_tok": 4, "num_attention_heads": 64,
                     "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088, "rms_norm_eps": 1e-5, "rope_theta": 150000,
                     "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
                                      "original_max_position_embeddings": 4096},
                     "layer_types": 18 * ["sliding_attention", "full_attention"], "sliding_window": 128, "attention_bias": True,
                     "swiglu_limit": 7.0, "max_position_embeddings": 131072, "tie_word_embeddings": False,
                     "quantization_config": {"quant_method": "mxfp4"}},
    "BLOOM-176B": {"architectures": ["BloomForCausalLM"], "hidden_size": 14336, "n_layer": 70, "n_head": 112,
                   "vocab_size": 250880, "layer_norm_epsilon": 1e-5, "torch_dtype": "bfloat16"},
}
RECIPES = {
    "llama3-70b-8gpu.yaml": ("Llama-3-70B", 70.6), "opt-175b.yaml": ("OPT-175B", 174.6), "bloom-176b.yaml": ("BLOOM-176B", 176.2),
    "qwen3-235b-a22b.yaml": ("Qwen3-235B-A22B", 235.1), "deepseek-v3.yaml": ("DeepSeek-V3", 671.0),
    "gpt-oss-120b.yaml": ("gpt-oss-120b", 116.8),
    "laptop.yaml": ("SmolLM2-1.7B", 1.7), "8bit-g128.yaml": ("Llama-3-8B", 8.0), "4bit-g128.yaml": ("Llama-3-8B", 8.0),
    "3bit-g64.yaml": ("Llama-3-8B", 8.0), "paper.yaml": ("Llama-3-8B", 8.0), "quality.yaml": ("Llama-3-8B", 8.0),
}
NO_RECIPES = {"reference.yaml"}
BEGIN = "# Plan: "
PAGE_COMMAND = "    $ shardq plan --model OPT-175B --machine configs/machines/h100x8.yaml --ranks 1,8,64,512"
# What the README shows of it: rows by their names, a part's heading before the first of its rows.
README_ROWS = {"ranks", "in all", "it may take", "sums", "forward", "solve", "assemble", "most of it is", "rank hours"}


def plan(shardq, recipe, model, *options):
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w", encoding="utf-8") as file:
            json.dump(MODELS[model], file)
        return subprocess.run([shardq, "plan", "--config", f"configs/{recipe}", "--model", folder, *options], cwd=TOP, check=True,
                              stdout=subprocess.PIPE, text=True).stdout


def size(count):
    return f"{count / 2**30:.1f} GiB"


def duration(seconds):
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if seconds < 120 else f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"


def settings(recipe):
    """The keys of the recipe as a dictionary of texts, with the machine that a comment names."""
    with open(os.path.join(TOP, "configs", recipe), encoding="utf-8") as file:
        text = file.read()
    pairs = (line.split(": ", 1) for line in text.splitlines() if not line.startswith("#") and ": " in line)
    return {**dict(pairs), "machine": re.search("^# for `shardq plan --machine (.*)`:$", text, re.MULTILINE)[1]}


def describe(shardq, recipe, model, billions):
    """What the comment has to say, and what is wrong with the plan."""
    given = settings(recipe)
    lines = [f"{BEGIN}{model}, {given['samples']} samples of {given['length']} tokens, {os.path.basename(given['machine'])}:"]
    wrong = []
    for text in plan(shardq, recipe, model, "--machine", given["machine"], "--json").splitlines():
        p = json.loads(text)
        ranks = f"{p['ranks']} rank{'s' if p['ranks'] > 1 else ''}"
        where = ("activations on the host, " if p["host_memory"]["activations"] else "activations in a file, ") if p["spill"] else ""
        lines.append(f"#   {ranks}: {size(p['memory_bytes'])} a rank of the {size(p['limit_bytes'])} it may take, {where}"
                     f"{duration(p['seconds'])}, most of it {p['most']['stage']}")
        if not p["fits"]:
            wrong.append(f"{recipe}: does not fit {ranks}")
        if not 0.5 < p["store_bytes"] / (billions * 1e9 * (int(given["bits"]) + 0.5) / 8) < 1.5:
            wrong.append(f"{recipe}: the store of {p['store_bytes']} bytes is not that of {billions} billion weights")
    return [*lines, f"#   store {size(p['store_bytes'])}, saved activations {size(p['state_bytes'])}"], wrong


def replace(text, lines):
    """The file's text with its plan replaced, or put after the comment it begins with."""
    old = text.splitlines()
    head = next(i for i, line in enumerate(old) if not line.startswith("#"))
    at = next((i for i in range(head) if old[i].startswith(BEGIN)), head)
    end = at
    while end < head and (end == at or old[end].startswith("#   ")):
        end += 1
    return "\n".join([*old[:at], *lines, *old[end:]]) + "\n"


def printed(shardq):
    """The lines that PAGE_COMMAND prints, as the page has them."""
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(os.path.join(TOP, "configs"), os.path.join(folder, "configs"))
        os.mkdir(os.path.join(folder, "OPT-175B"))
        with open(os.path.join(folder, "OPT-175B", "config.json"), "w", encoding="utf-8") as file:
            json.dump(MODELS["OPT-175B"], file)
        output = subprocess.run([shardq, *PAGE_COMMAND.split()[2:]], cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return [f"    {line}".rstrip() for line in output.stdout.splitlines()]


def shortened(lines):
    """The printed lines without those rows of the table that are not in README_ROWS; a heading stays where a row under it does."""
    first, last = lines.index("", 1), len(lines) - lines[::-1].index("")  # the table stands between blank lines
    kept, headings = [], []
    for line in lines[first + 1:last - 1]:
        name, *figures = re.split("  +", line.strip())
        if not figures:
            headings = [line]
        elif name in README_ROWS:
            kept += [*headings, line] if line.startswith(6 * " ") else [line]
            headings = []
    return [*lines[:first + 1], *kept, *lines[last - 1:]]


def page_with(text, lines):
    """The page with these lines after the command, up to the next that is not indented."""
    old = text.splitlines()
    at = end = old.index(PAGE_COMMAND) + 1
    while old[end].startswith("    ") or not old[end]:
        end += 1
    return "\n".join([*old[:at], *lines, "", *old[end:]]) + "\n"


def check_page(name, lines, is_writing):
    path = os.path.join(TOP, name)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    new = page_with(text, lines)
    if is_writing:
        with open(path, "w", encoding="utf-8") as file:
            file.write(new)
    return [] if is_writing or new == text else [f"{name}: its plan is not what shardq plan prints (recipes.py SHARDQ --write)"]


def main():
    shardq, is_writing = os.path.abspath(sys.argv[1]), "--write" in sys.argv[2:]
    there = {name for name in os.listdir(os.path.join(TOP, "configs")) if name.endswith(".yaml")} - NO_RECIPES
    wrong = [f"{name}: planned by no test" for name in there - set(RECIPES)]
    for recipe, (model, billions) in RECIPES.items():
        path = os.path.join(TOP, "configs", recipe)
        lines, mistakes = describe(shardq, recipe, model, billions)
        wrong += mistakes
        with open(path, encoding="utf-8") as file:
            text = file.read()
        new = replace(text, lines)
        if is_writing:
            with open(path, "w", encoding="utf-8") as file:
                file.write(new)
        elif new != text:
            wrong.append(f"{recipe}: its comment is not what shardq plan says (recipes.py SHARDQ --write):\n" + "\n".join(lines))
    lines = printed(shardq)
    wrong += check_page("docs/planning.md", lines, is_writing) + check_page("README.md", shortened(lines), is_writing)
    sys.exit("\n".join(wrong) if wrong else 0)


if __name__ == "__main__":
    main()
