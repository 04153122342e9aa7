#!/usr/bin/env -S python3 -P
"""interop.py [FAMILY...]: do other programs read what shardq writes?

Quantizes the tiny models of tests/golden with build/shardq, loads each checkpoint with transformers (through optimum and
gptqmodel) and with gptqmodel itself, and compares log-probabilities with those that plain transformers computes in
float32 from the same store assembled with --dequantized. Prints one line per family and reader: the mean difference, and beside
it how far quantization itself moves them. Run by `./bootstrap interop`. Exit codes: 0 all read, 1 some not, 2 usage."""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # gptqmodel would compile its kernels for minutes
os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
SHARDQ = os.path.join(ROOT, "build", "shardq")
GOLDEN = os.path.join(ROOT, "tests", "golden")

# model, what is asked of quantize. transformers' 4-bit CPU kernel takes groups of 32, 64, 128 and 256 only, so a model
# of width 48 (one group per row) or with 16 outputs is read by the kernel that takes any shape.
CASES = [
    ("llama", ["--bits", "4"]),
    ("llama", ["--bits", "4", "--asymmetric"]),
    ("llama", ["--bits", "8"]),
    ("llama", ["--bits", "3"]),
    ("llama", ["--bits", "2", "--group-size", "32"]),
    ("llama", ["--bits", "4", "--format", "gptq_v2"]),
    ("llama", ["--bits", "4", "--order", "natural", "--scale-dtype", "bf16"]),
    ("llama3", ["--bits", "4"]),
    ("llama_head_dim", ["--bits", "4"]),
    ("llama_bias", ["--bits", "4"]),
    ("mistral", ["--bits", "4"]),
    ("qwen2", ["--bits", "4"]),
    ("qwen3", ["--bits", "4"]),
    ("smollm2", ["--bits", "4"]),
    ("opt", ["--bits", "4"]),
    ("opt_untied", ["--bits", "4"]),
]
ANY_SHAPE = {"llama_bias", "smollm2"}
READERS = ("transformers", "gptqmodel")
LIMITS = {"transformers": 0.02, "gptqmodel": 0.03}  # fp16 or bf16 as stored; gptqmodel computes in bf16 whatever is stored


def shardq(*arguments):
    result = subprocess.run([SHARDQ, *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if result.returncode != 0:
        raise RuntimeError(f"shardq {arguments[0]}: {(result.stderr.strip() or 'no message').splitlines()[-1]}")


def quantize(model, options, tokens, folder):
    """The checkpoint, and the same as a plain one: (quantized, dequantized)."""
    store, quantized, plain = (os.path.join(folder, name) for name in ("store.h5", "quantized", "plain"))
    shardq("quantize", "--model", model, "--tokens", tokens, "--store", store, "--out", quantized, *options)
    shardq("assemble", "--store", store, "--out", plain, "--dequantized")
    return quantized, plain


def log_probabilities(model, ids):
    import torch

    with torch.inference_mode():
        return torch.log_softmax(model.eval()(input_ids=ids, use_cache=False).logits.float(), -1)


def check_loaded(model, info):
    missing = sorted(map(str, info["missing_keys"])) + sorted(map(str, info["mismatched_keys"]))
    if missing:
        raise RuntimeError(f"left at random values: {', '.join(missing[:3])}")
    kinds = {type(module).__name__ for module in model.modules()}
    if not any("Linear" in kind and kind not in ("Linear", "NonDynamicallyQuantizableLinear") for kind in kinds):
        raise RuntimeError("loaded without any quantized layer")


def load_plain(folder):
    import torch
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def load_transformers(folder, any_shape):
    import transformers

    extra = {}
    if any_shape:
        with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
            bits = json.load(file)["quantization_config"]["bits"]
        extra["quantization_config"] = transformers.GPTQConfig(bits=bits, backend="gptq_torch")
    model, info = transformers.AutoModelForCausalLM.from_pretrained(folder, device_map="cpu", output_loading_info=True, **extra)
    check_loaded(model, info)
    return model


def load_gptqmodel(folder, any_shape):
    del any_shape  # this kernel takes every shape
    from gptqmodel import BACKEND, GPTQModel

    model = GPTQModel.load(folder, backend=BACKEND.GPTQ_TORCH, device="cpu").model
    check_loaded(model, {"missing_keys": (), "mismatched_keys": ()})
    return model


def compare(name, options, tokens, folder):
    """One line per reader: (reader, mean difference, moved by quantization, trouble or None)."""
    import numpy
    import torch

    original = os.path.join(GOLDEN, name)
    ids = torch.from_numpy(numpy.fromfile(os.path.join(original, "tokens.i32"), "<i4").astype(numpy.int64).reshape(2, -1))
    quantized, plain = quantize(original, options, tokens, folder)
    reference = log_probabilities(load_plain(plain), ids)
    moved = (log_probabilities(load_plain(original), ids) - reference).abs().mean().item()
    lines = []
    for reader, load in zip(READERS, (load_transformers, load_gptqmodel)):
        try:
            difference = (log_probabilities(load(quantized, name in ANY_SHAPE), ids) - reference).abs().mean().item()
            trouble = None if difference <= LIMITS[reader] else f"above {LIMITS[reader]}"
        except Exception as error:  # a reader's refusal, in its own words
            difference, trouble = float("nan"), f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        lines.append((reader, difference, moved, trouble))
    return lines


def run_case(name, options, tokens):
    with tempfile.TemporaryDirectory() as folder:
        try:
            return compare(name, options, tokens, folder)
        except RuntimeError as error:
            return [("shardq", float("nan"), float("nan"), str(error))]


def main():
    parser = argparse.ArgumentParser(prog="interop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="folders of tests/golden (default: all cases)")
    wanted = parser.parse_args().families
    unknown = set(wanted) - {name for name, _ in CASES}
    if unknown:
        parser.error(f"no case for {', '.join(sorted(unknown))}")
    logging.disable(logging.WARNING)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        tokens = os.path.join(folder, "tokens.h5")
        # every golden tokenizer is the same: one token per character
        shardq("tokenize", "--model", os.path.join(GOLDEN, "llama"), "--text", os.path.join(ROOT, "LICENSE"),
               "--samples", "64", "--length", "40", "--out", tokens)
        for name, options in CASES:
            if not wanted or name in wanted:
                rows += [(name, " ".join(options), *line) for line in run_case(name, options, tokens)]
    print(f"\n{'family':16} {'options':42} {'reader':13} {'difference':>10} {'moved':>7}")
    for name, options, reader, difference, moved, trouble in rows:
        print(f"{name:16} {options:42} {reader:13} {difference:10.5f} {moved:7.4f}  {'ok' if trouble is None else 'FAILED ' + trouble}")
    failed = sum(row[-1] is not None for row in rows)
    print(f"{len(rows) - failed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
