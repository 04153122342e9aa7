#!/usr/bin/env -S python3 -P
"""interop_exact.py [MODEL...]: does `shardq eval` compute from a quantized checkpoint what transformers computes from its weights?

Quantizes the models of tests/golden, as F32 so that a plain checkpoint holds the rounded weights exactly, and compares the
negative log-likelihood that `shardq eval` finds with the one of plain transformers in float32 from the same store assembled
with --dequantized. Run by `./bootstrap interop`. Exit codes: 0 equal, 1 not."""

import concurrent.futures
import json
import os
import re
import subprocess
import sys
import tempfile

import numpy

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, "..")
SHARDQ, GOLDEN = os.path.join(TOP, "build", "shardq"), os.path.join(TOP, "tests", "golden")
sys.path.append(HERE)  # last: tokenize.py there is not Python's
import interop  # noqa: E402  (after its folder)

LIMIT = 1e-5  # relative: logits in float32 differ in the order of sums
WRITE_TOKENS = ("import sys, h5py, numpy; ids = numpy.fromfile(sys.argv[1], '<i4').reshape(2, -1); "
                "h5py.File(sys.argv[2], 'w')['tokens'] = ids")


def list_models():
    """All but those that widen.py does not take: of 8-bit and 4-bit weights, and in several files."""
    with open(os.path.join(GOLDEN, "manifest.txt"), encoding="utf-8") as file:
        names = [line.split()[0] for line in file]
    return [name for name in names if not re.search("_(fp8|mxfp4)", name) and os.path.exists(os.path.join(GOLDEN, name, "model.safetensors"))]


def make(name, folder):
    """The job for transformers, and what eval finds."""
    source, out, plain, tokens = (os.path.join(folder, name + end) for end in ("", "-4bit", "-plain", ".h5"))
    ids = os.path.join(GOLDEN, name, "tokens.i32")
    interop.run_program(sys.executable, os.path.join(TOP, "tests", "whole", "widen.py"), os.path.join(GOLDEN, name), source)
    interop.run_program(os.path.join(TOP, ".venv", "bin", "python3"), "-c", WRITE_TOKENS, ids, tokens)
    interop.run_program(SHARDQ, "quantize", "--model", source, "--tokens", tokens, "--out", out, "--compute", "fp32",
                        "--threads", "1")
    interop.run_program(SHARDQ, "assemble", "--store", out + ".store.h5", "--out", plain, "--dequantized")
    result = subprocess.run([SHARDQ, "eval", "--model", out, "--tokens", tokens, "--compute", "fp32", "--threads", "1",
                             "--json"], capture_output=True, text=True, check=True)
    rows = numpy.fromfile(ids, "<i4").reshape(2, -1)
    return {"folder": plain, "ids": rows.tolist(), "out": plain + ".npy"}, json.loads(result.stdout)["nll"]


def loss_of(job):
    found, ids = numpy.load(job["out"]).astype(numpy.float64), numpy.array(job["ids"])
    return -numpy.take_along_axis(found, ids[:, 1:, None], -1).mean()


def main():
    names = sys.argv[1:] or list_models()
    with tempfile.TemporaryDirectory() as folder:
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            made = dict(zip(names, pool.map(lambda name: make(name, folder), names)))
        found = interop.run_reader(sys.executable, "plain", [job for job, _ in made.values()], os.path.join(folder, "jobs"))
        n_wrong, largest = 0, 0.0
        for name, (job, loss) in made.items():
            trouble = found[job["folder"]][0]
            difference = abs(loss / loss_of(job) - 1) if not trouble else 0
            largest = max(largest, difference)
            if trouble or not difference <= LIMIT:
                n_wrong += 1
                print(f"{name}: eval finds {loss}, transformers {trouble or loss_of(job)}")
    print(f"{len(names)} quantized models: shardq eval and transformers differ by {largest:.1e} at most; {n_wrong} not as expected")
    sys.exit(1 if n_wrong else 0)


if __name__ == "__main__":
    main()
