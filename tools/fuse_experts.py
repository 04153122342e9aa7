#!/usr/bin/env -S python3 -P
"""fuse_experts.py IN OUT: a plain GPT-OSS checkpoint with its experts fused, the one layout that transformers reads.

`shardq assemble --dequantized` writes the experts of every family one by one; of GPT-OSS transformers has no names for them. IN is
such a folder, OUT a new one, with a file for the experts of each block. Needs torch and safetensors. Exit codes: 0 done, 1 not."""

import json
import os
import re
import shutil
import sys

EXPERT = re.compile(r"(.*\.mlp\.experts)\.(\d+)\.(gate|up|down)_proj\.(weight|bias)")
INDEX = "model.safetensors.index.json"


def is_needed(folder):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        return json.load(file)["model_type"] == "gpt_oss"


def open_all(folder):
    """{name of a tensor: the open file that has it}"""
    from safetensors import safe_open

    files = [safe_open(os.path.join(folder, name), "pt") for name in sorted(os.listdir(folder)) if name.endswith(".safetensors")]
    return {name: file for file in files for name in file.keys()}


def fuse(where, experts):
    """The fused tensors of one block, whose names begin with `experts`. Of each expert weight [outputs, inputs] -> [experts,
    inputs, outputs]; the outputs of gate_proj, then those of up_proj, are those of gate_up_proj."""
    import torch

    count = 1 + max(int(match[2]) for name in where if (match := EXPERT.fullmatch(name)) and match[1] == experts)
    fused = {}
    for kind, ending in (("weight", ""), ("bias", "_bias")):
        for whole, parts in (("gate_up_proj", ("gate_proj", "up_proj")), ("down_proj", ("down_proj",))):
            rows = []
            for expert in range(count):
                names = [f"{experts}.{expert}.{part}.{kind}" for part in parts]
                outputs = torch.cat([where[name].get_tensor(name) for name in names])
                rows.append(outputs.T if kind == "weight" else outputs)
            fused[f"{experts}.{whole}{ending}"] = torch.stack(rows)
    return fused


def convert(source, target):
    from safetensors.torch import save_file

    where = open_all(source)
    blocks = sorted({match[1] for name in where if (match := EXPERT.fullmatch(name))})
    others = [name for name in where if not EXPERT.fullmatch(name)]
    os.mkdir(target)
    found = {}

    def save(file, tensors):
        save_file(tensors, os.path.join(target, file), metadata={"format": "pt"})
        found.update({name: file for name in tensors})

    save("model.safetensors" if not blocks else "model-others.safetensors", {name: where[name].get_tensor(name) for name in others})
    for number, experts in enumerate(blocks):
        save(f"model-experts-{number:05d}.safetensors", fuse(where, experts))
    with open(os.path.join(target, INDEX), "w", encoding="utf-8") as file:
        json.dump({"metadata": {}, "weight_map": found}, file, indent=1)
    for name in os.listdir(source):
        path = os.path.join(source, name)
        if os.path.isfile(path) and not name.endswith(".safetensors") and name != INDEX:
            shutil.copy(path, target)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        if not is_needed(sys.argv[1]):
            sys.exit(f"fuse_experts: {sys.argv[1]} is no GPT-OSS")
        convert(*sys.argv[1:])
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"fuse_experts: {error}")


if __name__ == "__main__":
    main()
