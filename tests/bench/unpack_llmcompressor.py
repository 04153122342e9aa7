#!/usr/bin/env python3
"""unpack_llmcompressor.py CHECKPOINT OUT: a plain float32 model folder from llm-compressor's symmetric packed weights.

For the evaluation only: `shardq eval` reads plain and GPTQ folders. weight = scale[row, group] * code, in float32, so nothing
is rounded on the way. Exit codes: 0 done, 2 usage."""

import glob
import json
import os
import sys

import safetensors.torch
import torch
from compressed_tensors.compressors.pack_quantized.helpers import unpack_from_int32

PACKED = ".weight_packed"


def unpack(tensors, prefix, bits):
    shape = torch.Size(tensors[prefix + ".weight_shape"].tolist())
    scales = tensors[prefix + ".weight_scale"].float()
    codes = unpack_from_int32(tensors[prefix + PACKED], bits, shape).float()
    return codes * scales.repeat_interleave(shape[1] // scales.shape[1], dim=1)


def unpack_all(tensors, bits):
    prefixes = [name.removesuffix(PACKED) for name in tensors if name.endswith(PACKED)]
    plain = {name: tensor for name, tensor in tensors.items() if name.rpartition(".")[0] not in prefixes}
    return {**plain, **{prefix + ".weight": unpack(tensors, prefix, bits) for prefix in prefixes}}


def main(checkpoint, out):
    with open(os.path.join(checkpoint, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    groups = config.pop("quantization_config")["config_groups"]
    (bits,) = {group["weights"]["num_bits"] for group in groups.values()}
    tensors = {}
    for path in glob.glob(os.path.join(checkpoint, "*.safetensors")):
        tensors.update(safetensors.torch.load_file(path))
    os.makedirs(out)
    with open(os.path.join(out, "config.json"), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1)
    safetensors.torch.save_file(unpack_all(tensors, bits), os.path.join(out, "model.safetensors"), {"format": "pt"})


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print(__doc__.splitlines()[0], file=sys.stderr)
        sys.exit(2)
    main(*sys.argv[1:])
