"""GPT-OSS with the experts fused, the one layout in which transformers reads a plain checkpoint.

Used by interop_read.py: `assemble --dequantized` writes experts one by one."""

import json
import os
import re

import torch

PART = re.compile(r"(.*\.mlp\.experts)\.(\d+)\.(gate|up|down)_proj\.(weight|bias)")


def is_needed(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        return json.load(file)["model_type"] == "gpt_oss"


def fuse(tensors):
    """weight [outputs, inputs] of each expert -> [experts, inputs, outputs], of gate and up [experts, inputs, 2 outputs]"""
    fused, parts = {}, {}
    for name, tensor in tensors.items():
        if match := PART.fullmatch(name):
            experts, number, part, kind = match.groups()
            parts.setdefault((experts, kind), {})[int(number), part] = tensor.T if kind == "weight" else tensor
        else:
            fused[name] = tensor
    for (experts, kind), found in parts.items():
        ending = "" if kind == "weight" else "_bias"
        numbers = range(1 + max(number for number, _ in found))
        fused[f"{experts}.down_proj{ending}"] = torch.stack([found[n, "down"] for n in numbers])
        fused[f"{experts}.gate_up_proj{ending}"] = torch.stack(
            [torch.cat([found[n, "gate"], found[n, "up"]], -1) for n in numbers])
    return fused


def load(folder, **options):
    """As from_pretrained(folder, ...): (model, keys that were not there)."""
    import transformers
    from safetensors.torch import load_file

    tensors = {}
    for name in os.listdir(folder):
        if name.endswith(".safetensors"):
            tensors |= load_file(os.path.join(folder, name))
    config = transformers.AutoConfig.from_pretrained(folder)
    return transformers.GptOssForCausalLM.from_pretrained(None, config=config, state_dict=fuse(tensors), output_loading_info=True,
                                                          **options)
