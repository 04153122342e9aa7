#!/usr/bin/env python3
"""codes.py A B MOST: how many 4-bit codes of two GPTQ checkpoints differ, as a line "N of M codes differ (P %)".

Exit code 1: a share of more than MOST, or checkpoints of different layers; 2: usage."""

import glob
import json
import os
import sys


def read_codes(folder):
    """The bytes of every qweight by name; two codes in each."""
    codes = {}
    for path in glob.glob(os.path.join(folder, "*.safetensors")):
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header, data = json.loads(file.read(length)), file.read()
        for name, entry in header.items():
            if name.endswith(".qweight"):
                begin, end = entry["data_offsets"]
                codes[name] = data[begin:end]
    return codes


def count_different(a, b):
    """Of two strings of bytes, how many half bytes differ."""
    bits = int.from_bytes(a, "little") ^ int.from_bytes(b, "little")
    bits |= bits >> 2
    bits |= bits >> 1
    lowest = int.from_bytes(b"\x11" * len(a), "little")
    return (bits & lowest).bit_count()


def main(a, b, most):
    a, b = read_codes(a), read_codes(b)
    if not a or {name: len(data) for name, data in a.items()} != {name: len(data) for name, data in b.items()}:
        sys.exit("codes: not the same layers")
    different = sum(count_different(a[name], b[name]) for name in a)
    total = sum(2 * len(data) for data in a.values())
    print(f"{different} of {total} codes differ ({100 * different / total:.3f} %)")
    sys.exit(different > float(most) * total)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        print(__doc__.splitlines()[0], file=sys.stderr)
        sys.exit(2)
    main(*sys.argv[1:])
