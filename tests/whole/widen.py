#!/usr/bin/env python3
"""widen.py IN OUT: a model folder of one safetensors file with its weights as F32, which hold rounded weights exactly."""

import json
import pathlib
import struct
import sys

source, target = map(pathlib.Path, sys.argv[1:])
data = (source / "model.safetensors").read_bytes()
start = 8 + struct.unpack("<Q", data[:8])[0]
header, body = {}, b""
for name, entry in json.loads(data[8:start]).items():
    if name == "__metadata__":
        continue
    first, end = (start + offset for offset in entry["data_offsets"])
    values = data[first:end]
    count = len(values) // 2
    if entry["dtype"] == "BF16":  # the upper half of a float
        values = b"".join(b"\0\0" + values[i:i + 2] for i in range(0, len(values), 2))
    elif entry["dtype"] == "F16":
        values = struct.pack(f"<{count}f", *struct.unpack(f"<{count}e", values))
    header[name] = {"dtype": "F32", "shape": entry["shape"], "data_offsets": [len(body), len(body) + len(values)]}
    body += values
text = json.dumps(header, separators=(",", ":")).encode()
target.mkdir()
(target / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + body)
(target / "config.json").write_text((source / "config.json").read_text())
