#!/usr/bin/env -S python3 -P
"""interop.py [--vllm PYTHON] [FAMILY...]: do other programs read what shardq writes?

Quantizes the tiny models of tests/golden with build/shardq in every format, lets transformers (through optimum and gptqmodel,
or compressed-tensors), gptqmodel and vLLM's CPU build compute from each checkpoint, and compares log-probabilities with
those that plain transformers computes in float32 from the same store assembled with --dequantized. Prints a table: for each
family, format and reader the mean difference, or what the reader says; beside it how far quantization itself moves them.
PYTHON is the interpreter that has vLLM. Run by `./bootstrap interop`. Exit codes: 0 as expected, 1 not, 2 usage."""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
SHARDQ = os.path.join(ROOT, "build", "shardq")
GOLDEN = os.path.join(ROOT, "tests", "golden")

# What every family is written as, and what one family shows of the rest. CT: compressed-tensors, which keeps scales in the
# model's type.
CT = ["--format", "compressed-tensors"]
FORMATS = [
    ("gptq, 4 bits", ["--bits", "4"]),
    ("compressed-tensors, 4 bits", CT + ["--bits", "4"]),
]
ALL_FORMATS = FORMATS + [
    ("gptq, 8 bits", ["--bits", "8"]),
    ("gptq, 4 bits, bf16 scales, natural order", ["--bits", "4", "--order", "natural", "--scale-dtype", "bf16"]),
    ("gptq, 4 bits, one layer kept", ["--bits", "4", "--skip", r"layers\.0\.mlp\.down_proj"]),
    ("gptq, 4 bits, joined layers kept", ["--bits", "4", "--skip", r"layers\.0\.self_attn\.[qkv]_proj"]),
    ("gptq, 4 bits, others 8", ["--bits", "4", "--config", "RULES"]),
    ("gptq_v2, 4 bits", ["--bits", "4", "--format", "gptq_v2"]),
    ("gptq_v2, 4 bits asymmetric", ["--bits", "4", "--asymmetric"]),
    ("gptq_v2, 3 bits", ["--bits", "3"]),
    ("gptq_v2, 2 bits, groups of 32", ["--bits", "2", "--group-size", "32"]),
    ("compressed-tensors, 4 bits, channels", CT + ["--bits", "4", "--group-size", "-1"]),
    ("compressed-tensors, 4 bits asymmetric", CT + ["--bits", "4", "--asymmetric"]),
    ("compressed-tensors, 8 bits", CT + ["--bits", "8"]),
    ("compressed-tensors, 2 bits", CT + ["--bits", "2", "--group-size", "32"]),
    ("compressed-tensors, 4 bits, joined layers kept", CT + ["--bits", "4", "--skip", r"layers\.0\.self_attn\.[qkv]_proj"]),
    ("compressed-tensors, 4 bits, others 8", CT + ["--bits", "4", "--config", "RULES"]),
]
RULES = "rules:\n  - pattern: mlp\\.(gate|up)_proj\n    bits: 8\n"
SHOWN_WHOLE = "llama_head_dim"  # a family that all three readers take

READERS = ("transformers", "gptqmodel", "vllm")
# fp16 or bf16 as stored; gptqmodel computes in bf16 whatever is stored
LIMITS = {"transformers": 0.03, "gptqmodel": 0.03, "vllm": 0.03}

# What a reader is known to refuse, or to get wrong ("wrong" for its words), with files that others read: (reader, family,
# format, words). Anything else is a failure. reference: there are no log-probabilities to compare with.
KNOWN = [
    ("transformers", ".*", "gptq, 4 bits, others 8", "mismatch|shape|size|left at random|expect"),
    ("vllm", ".*", ".*8 bits", "uint8b128"),
    ("vllm", ".*", ".*others 8", "uint8b128"),
    ("vllm", ".*", "gptq_v2, (3|2) bits.*|gptq_v2.*asymmetric", "Unsupported quantization config"),
    ("vllm", ".*", "compressed-tensors, 2 bits", "not supported by CPUWNA16"),
    ("vllm", ".*", ".*", "not supported by CPUWNA16, supported sizes are|Only group_sizes"),
    ("vllm", "bloom", ".*", "shape .* is invalid for input of size"),  # reorders query_key_value along the wrong dimension
    ("transformers", "gpt2|gpt_bigcode_heads", "gptq.*", "has no attribute 'weight'"),  # initialises Conv1D that it has replaced
    ("transformers", "gpt_bigcode", "gptq.*", "has no attribute 'normal_'"),
    ("transformers", "falcon_.*", "gptq.*", "left at random values"),  # FalconLinear is not replaced
    ("gptqmodel", "phi3.*|glm.*", "gptq.*", "Missing required quantized weights"),  # wants gate_up_proj in two
    ("gptqmodel", "gpt_neox.*", "gptq.*", "wrong"),  # NaN from its own forward pass
    ("reference", "internlm2", ".*", "does not recognize this architecture"),
]


def shardq(*arguments):
    result = subprocess.run([SHARDQ, *arguments], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if result.returncode != 0:
        raise RuntimeError(f"shardq {arguments[0]}: {(result.stderr.strip() or 'no message').splitlines()[-1]}")


class Case:
    """One family in one format: the checkpoint, the same as a plain one, and what readers made of it."""

    def __init__(self, family, label, options, folder):
        self.family, self.label, self.options = family, label, options
        self.original = os.path.join(GOLDEN, family)
        self.quantized, self.plain, self.store = (os.path.join(folder, name) for name in ("quantized", "plain", "store.h5"))
        self.ids = os.path.join(folder, "..", f"{family}.npy")
        self.trouble = None
        self.cells = {}

    def make(self, tokens, rules):
        options = [rules if option == "RULES" else option for option in self.options]
        with open(os.path.join(self.original, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        if "compressed-tensors" in options and "bfloat16" in (config.get("torch_dtype"), config.get("dtype")):
            options += ["--scale-dtype", "bf16"]
        try:
            shardq("quantize", "--model", self.original, "--tokens", tokens, "--store", self.store, "--out", self.quantized,
                   *options)
            shardq("assemble", "--store", self.store, "--out", self.plain, "--dequantized")
        except RuntimeError as error:
            self.trouble = str(error)


# --- readers ----------------------------------------------------------------------------------------------------------


def has_avx512():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return "avx512f" in file.read()


def reason_not_to_run(reader, case, vllm):
    """Why a cell is not run; None: it is."""
    if reader == "gptqmodel" and "compressed-tensors" in case.label:
        return "gptqmodel has no reader for compressed-tensors"
    if reader == "vllm" and not vllm:
        return "vLLM is not installed here"
    if reader == "vllm" and not has_avx512():
        return "vLLM's CPU build has its 4-bit product for AVX-512 only, which this processor lacks"
    if reader == "vllm":
        with open(os.path.join(case.original, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        heads = config.get("num_attention_heads", config.get("n_head"))
        hidden = config.get("hidden_size", config.get("n_embd"))
        head_dim = config.get("head_dim") or (hidden // heads if heads and hidden else 32)
        if head_dim % 32:
            return "vLLM's CPU attention takes heads of 32, 64, 80, ... only; the tiny model's have 16"
    return None


def run_reader(python, reader, jobs, folder):
    """{folder: trouble or None}; a reader that dies takes only the checkpoint with it that it had in work."""
    found, program = {}, os.path.join(ROOT, "tools", "interop_read.py")
    while len(found) < len(jobs):
        path = os.path.join(folder, f"{reader}.json")
        waiting = [job for job in jobs if job["folder"] not in found]
        with open(path, "w", encoding="utf-8") as file:
            json.dump(waiting, file)
        result = subprocess.run([python, "-P", program, reader, path], capture_output=True, text=True, check=False,
                                stdin=subprocess.DEVNULL)
        lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith('{"folder"')]
        found.update((line["folder"], line["trouble"]) for line in lines)
        if len(found) < len(jobs):
            last = (result.stderr.strip() or "no message").splitlines()[-1]
            dead = next(job["folder"] for job in jobs if job["folder"] not in found)
            found[dead] = f"the reader ended with status {result.returncode}: {last}"
    return found


def read_all(cases, readers, folder):
    """Fills the cells: a difference, or words."""
    import numpy

    def output(kind, number):
        return os.path.join(folder, f"{kind}{number}.npy")

    made = [case for case in cases if not case.trouble]
    originals = sorted({case.original for case in made})
    jobs = [{"folder": case.plain, "ids": case.ids, "out": output("plain", i)} for i, case in enumerate(made)]
    jobs += [{"folder": original, "ids": next(case.ids for case in made if case.original == original),
              "out": output("original", i)} for i, original in enumerate(originals)]
    plain = run_reader(sys.executable, "plain", jobs, folder)
    for number, case in enumerate(made):
        if plain[case.plain]:
            case.trouble = f"no reference: {plain[case.plain]}"
            continue
        reference = numpy.load(output("plain", number))
        if not plain[case.original]:
            original = numpy.load(output("original", originals.index(case.original)))
            case.moved = float(numpy.abs(original - reference).mean())
    for reader, python in readers.items():
        wanted = []
        for number, case in enumerate(made):
            reason = case.trouble or reason_not_to_run(reader, case, python)
            case.cells[reader] = ("not run", reason)
            if not reason:
                wanted.append((case, {"folder": case.quantized, "ids": case.ids, "out": output(reader, number)}))
        found = run_reader(python, reader, [job for _, job in wanted], folder) if wanted else {}
        for case, job in wanted:
            trouble = found[case.quantized]
            if trouble:
                case.cells[reader] = ("refused", trouble)
                continue
            reference = numpy.load(output("plain", made.index(case)))
            difference = float(numpy.abs(numpy.load(job["out"]) - reference).mean())
            case.cells[reader] = ("read", difference)


# --- the table --------------------------------------------------------------------------------------------------------


def is_known(reader, case, words):
    return any(reader == known and re.fullmatch(family, case.family) and re.fullmatch(label, case.label)
               and re.search(pattern, words) for known, family, label, pattern in KNOWN)


class Notes:
    """Footnotes: equal words share a letter."""

    def __init__(self):
        self.words = []

    def mark(self, words):
        words = words if len(words) <= 200 else words[:200] + " ..."
        if words not in self.words:
            self.words.append(words)
        return f"({self.words.index(words) + 1})"


def show_cell(reader, case, notes):
    """(text, whether it is as it should be)"""
    kind, value = case.cells.get(reader, ("not run", case.trouble))
    if kind == "not run":
        return f"not run {notes.mark(value)}", not case.trouble or is_known("reference", case, value)
    if kind == "refused":
        value = value.replace(case.quantized, "CHECKPOINT")
        known = is_known(reader, case, value)
        return f"{'refused' if known else '**refused**'} {notes.mark(value)}", known
    good = not math.isnan(value) and value <= LIMITS[reader]
    known = good or is_known(reader, case, "wrong")
    return (f"{value:.4f}" if good else f"**{value:.4f}**"), known


def show(cases):
    notes, bad, count = Notes(), 0, 0
    print("\n| family | format | moved | transformers | gptqmodel | vLLM |\n|---|---|---|---|---|---|")
    for case in cases:
        cells = [show_cell(reader, case, notes) for reader in READERS]
        bad += sum(not good for _, good in cells)
        count += len(cells)
        moved = "-" if math.isnan(getattr(case, "moved", math.nan)) else f"{case.moved:.3f}"
        print(f"| {case.family} | {case.label} | {moved} | {' | '.join(text for text, _ in cells)} |")
    print()
    for number, words in enumerate(notes.words, 1):
        print(f"({number}) {words}")
    print(f"\n{count - bad} passed, {bad} failed")
    return bad == 0


def list_cases(families, folder):
    import numpy

    cases = []
    for family in families:
        ids = numpy.fromfile(os.path.join(GOLDEN, family, "tokens.i32"), "<i4").astype(numpy.int64).reshape(2, -1)
        numpy.save(os.path.join(folder, f"{family}.npy"), ids)
        for label, options in ALL_FORMATS if family == SHOWN_WHOLE else FORMATS:
            place = os.path.join(folder, str(len(cases)))
            os.mkdir(place)
            cases.append(Case(family, label, options, place))
    return cases


def main():
    parser = argparse.ArgumentParser(prog="interop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help="folders of tests/golden (default: all)")
    parser.add_argument("--vllm", metavar="PYTHON", help="the Python interpreter that has vLLM")
    arguments = parser.parse_args()
    with open(os.path.join(GOLDEN, "manifest.txt"), encoding="utf-8") as file:
        families = [line.split()[0] for line in file]
    if unknown := set(arguments.families) - set(families):
        parser.error(f"no golden model {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory() as folder:
        tokens, rules = os.path.join(folder, "tokens.h5"), os.path.join(folder, "rules.yaml")
        with open(rules, "w", encoding="utf-8") as file:
            file.write(RULES)
        # every golden tokenizer is the same: one token per character
        shardq("tokenize", "--model", os.path.join(GOLDEN, "llama"), "--text", os.path.join(ROOT, "LICENSE"),
               "--samples", "64", "--length", "40", "--out", tokens)
        cases = list_cases([family for family in families if not arguments.families or family in arguments.families], folder)
        for case in cases:
            case.make(tokens, rules)
        read_all(cases, {"transformers": sys.executable, "gptqmodel": sys.executable, "vllm": arguments.vllm}, folder)
        sys.exit(0 if show(cases) else 1)


if __name__ == "__main__":
    main()
