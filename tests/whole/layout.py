#!/usr/bin/env python3
"""layout.py IN OUT HOW: a Mixtral of one safetensors file, the same weights with the experts in another layout.

fused: in the tensors that transformers has in memory; renamed: one by one, under the names that GPTQModel has."""

import json
import pathlib
import re
import shutil
import struct
import sys

source, target, how = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
data = (source / "model.safetensors").read_bytes()
start = 8 + struct.unpack("<Q", data[:8])[0]
WORDS = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}


def rename(name):
    name = name.replace("block_sparse_moe.gate", "mlp.gate")
    return re.sub(r"block_sparse_moe(\.experts\.\d+\.)(w\d)", lambda match: f"mlp{match[1]}{WORDS[match[2]]}", name)


def fuse(tensors):
    fused = {}
    for name, (dtype, shape, values) in sorted(tensors.items()):  # gate comes before up
        match = re.fullmatch(r"(.*\.experts)\.(\d+)\.(\w+)_proj\.weight", name)
        if not match:
            fused[name] = (dtype, shape, values)
            continue
        whole = f"{match[1]}.{'down' if match[3] == 'down' else 'gate_up'}_proj"
        experts = fused.setdefault(whole, (dtype, {}, None))[1]
        experts.setdefault(int(match[2]), []).append((shape, values))
    for name, (dtype, experts, _) in fused.items():
        if isinstance(experts, dict):
            parts = [part for expert in sorted(experts) for part in experts[expert]]
            (rows, columns), _ = parts[0]
            fused[name] = (dtype, [len(experts), rows * len(experts[0]), columns], b"".join(values for _, values in parts))
    return fused


tensors = {rename(name): (entry["dtype"], entry["shape"], data[start:][slice(*entry["data_offsets"])])
           for name, entry in json.loads(data[8:start]).items() if name != "__metadata__"}
if how == "fused":
    tensors = fuse(tensors)
header, body = {}, b""
for name, (dtype, shape, values) in tensors.items():
    header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(values)]}
    body += values
text = json.dumps(header, separators=(",", ":")).encode()
target.mkdir()
for file in source.iterdir():
    if file.name != "model.safetensors":
        shutil.copy(file, target)
(target / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
