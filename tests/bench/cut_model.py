#!/usr/bin/env python3
"""cut_model.py MODEL BLOCKS OUT: a model folder with only the first BLOCKS blocks of MODEL.

For quick comparisons of speed: embedding, final norm and output layer stay, config.json says num_hidden_layers = BLOCKS.
Reads one or many safetensors files, writes one; tensors are copied byte by byte. Only names with ".layers.N." are understood
(Llama, Mistral, Qwen, OPT). Exit codes: 0 done, 1 failed, 2 usage."""

import glob
import json
import os
import re
import shutil
import struct
import sys

KEPT = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json")


def read_header(path):
    """The tensors of a safetensors file by name, and where their data begin."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return header, 8 + length


def is_kept(name, n_blocks):
    found = re.search(r"\.layers\.(\d+)\.", name)
    return found is None or int(found.group(1)) < n_blocks


def kept_tensors(folder, n_blocks):
    """(name, entry, file, first byte) of every tensor that stays."""
    kept = []
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        header, base = read_header(path)
        kept += [(name, entry, path, base + entry["data_offsets"][0]) for name, entry in sorted(header.items())
                 if is_kept(name, n_blocks)]
    return kept


def write_tensors(tensors, path):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, entry, _, _ in tensors:
        size = entry["data_offsets"][1] - entry["data_offsets"][0]
        header[name] = {**entry, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, _, source, first in tensors:
            begin, end = header[name]["data_offsets"]
            with open(source, "rb") as file:
                file.seek(first)
                out.write(file.read(end - begin))


def cut_config(folder, n_blocks):
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    if not 1 <= n_blocks <= config["num_hidden_layers"]:
        sys.exit(f"cut_model: {folder} has {config['num_hidden_layers']} blocks, asked for {n_blocks}")
    config["num_hidden_layers"] = n_blocks
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"][:n_blocks]
    return config


def cut(folder, n_blocks, out):
    config = cut_config(folder, n_blocks)
    os.makedirs(out)
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1)
    write_tensors(kept_tensors(folder, n_blocks), os.path.join(out, "model.safetensors"))
    for name in KEPT:
        if os.path.exists(os.path.join(folder, name)):
            shutil.copy(os.path.join(folder, name), out)


if __name__ == "__main__":
    if len(sys.argv) != 4 or not sys.argv[2].isdigit():
        print(__doc__.splitlines()[0], file=sys.stderr)
        sys.exit(2)
    cut(sys.argv[1], int(sys.argv[2]), sys.argv[3])
