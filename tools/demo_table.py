#!/usr/bin/env -S python3 -P
"""demo_table.py NAME=FOLDER...: size of each checkpoint folder and its perplexity from demo/NAME.json (eval --json)."""

import glob
import json
import os
import sys


def row(argument):
    name, folder = argument.split("=", 1)
    size = sum(os.path.getsize(path) for path in glob.glob(os.path.join(folder, "*.safetensors")))
    with open(os.path.join("demo", name + ".json"), encoding="utf-8") as file:
        result = json.load(file)
    return name, folder, size, result["perplexity"], result["tokens"]


def main():
    if len(sys.argv) < 2 or not all("=" in argument for argument in sys.argv[1:]):
        sys.exit(2)
    rows = [row(argument) for argument in sys.argv[1:]]
    print(f"\n{'':10} {'MB':>8} {'size':>7} {'perplexity':>11}   folder")
    for name, folder, size, perplexity, _ in rows:
        print(f"{name:10} {size / 1e6:8.1f} {100 * size / rows[0][2]:5.1f} % {perplexity:11.3f}   {folder}")
    print(f"\nPerplexity on {rows[0][4]} tokens of text that the calibration has not seen; lower is better.")


if __name__ == "__main__":
    main()
