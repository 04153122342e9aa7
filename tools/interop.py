#!/usr/bin/env -S python3 -P
"""interop.py [--vllm PYTHON] [--readers LIST] [--only REGEX] [MODEL...]: do other programs read what shardq writes?

Makes models of all families (interop_models.py), quantizes them with build/shardq in every format, lets transformers (through
optimum and gptqmodel, or compressed-tensors), gptqmodel, vLLM's CPU build (interop_vllm.py) and ExLlamaV2 (interop_exllama.py)
compute from each, and compares log-probabilities with those that plain transformers computes in float32 from the same store
assembled with --dequantized.
Prints two tables, families and formats: for each reader the mean difference, or why it does not read it.
PYTHON is the interpreter that has vLLM. MODEL: names of tests/golden; --only: formats whose name matches.
Run by `./bootstrap interop`. Exit codes: 0 as expected (interop_cases.py), 1 not, 2 usage."""

import argparse
import concurrent.futures
import json
import math
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SHARDQ = os.path.join(HERE, "..", "build", "shardq")
sys.path.append(HERE)  # last: tokenize.py there is not Python's
import interop_cases as cases_of  # noqa: E402  (after its folder)

READERS = ("transformers", "gptqmodel", "vllm", "exllamav2")
ONLY_GPTQ = ("gptqmodel", "exllamav2")
# Mean difference of log-probabilities: fp16 or bf16 as stored; gptqmodel computes in bf16 whatever is stored. Quantization
# itself moves them by much more. In bf16 tokens near a router's boundary go to other experts.
LIMIT, LIMIT_EXPERTS = 0.03, 0.05


def run_program(*arguments):
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if result.returncode != 0:
        words = (result.stderr.strip() or "no message").splitlines()[-1]
        raise RuntimeError(f"{os.path.basename(arguments[0])} {arguments[1]}: {words}")


class Case:
    """One model in one format: the checkpoint, the same as a plain one, and what readers made of it."""

    def __init__(self, model, label, options, folder, models):
        self.model, self.label, self.options = model, label, options
        self.original = os.path.join(models, model)
        self.quantized, self.plain, self.store = (os.path.join(folder, name) for name in ("quantized", "plain", "store.h5"))
        self.moved = math.nan  # how far quantization itself moves the log-probabilities
        self.trouble, self.has_experts = None, False
        self.cells, self.how = {}, {}

    def make(self, tokens, rules):
        options = [rules if option == "RULES" else option for option in self.options]
        with open(os.path.join(self.original, "config.json"), encoding="utf-8") as file:
            config = json.load(file)
        self.has_experts = "num_experts_per_tok" in config
        if "compressed-tensors" in options and "bfloat16" in (config.get("torch_dtype"), config.get("dtype")):
            options += ["--scale-dtype", "bf16"]  # readers of this format keep scales in the model's type
        try:
            run_program(SHARDQ, "quantize", "--model", self.original, "--tokens", tokens, "--store", self.store, "--out",
                        self.quantized, *options)
            run_program(SHARDQ, "assemble", "--store", self.store, "--out", self.plain, "--dequantized")
        except RuntimeError as error:
            self.trouble = str(error)

    def original_log_probabilities(self):
        import numpy

        logits = numpy.fromfile(os.path.join(self.original, "logits.f32"), "<f4")
        logits = logits.reshape(*self.ids().shape, -1)[:, :-1].astype(numpy.float64)
        logits -= logits.max(-1, keepdims=True)
        return logits - numpy.log(numpy.exp(logits).sum(-1, keepdims=True))

    def ids(self):
        import numpy

        return numpy.fromfile(os.path.join(self.original, "tokens.i32"), "<i4").astype(numpy.int64).reshape(2, -1)


# --- readers ----------------------------------------------------------------------------------------------------------


def has_avx512():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return "avx512f" in file.read()


def reason_not_to_run(reader, case, python):
    """Why a cell is not run; None: it is."""
    if case.trouble:
        return case.trouble
    if reader in ONLY_GPTQ and case.label.startswith("compressed-tensors"):
        return "it has no reader for compressed-tensors"
    if reader == "vllm" and not python:
        return "vLLM is not installed here"
    if reader == "vllm" and not has_avx512():
        return "vLLM's CPU build has its 4-bit product for AVX-512 only, which this processor lacks"
    return None


def run_reader(python, reader, jobs, place):
    """{folder: (trouble or None, how)}; a reader that dies takes only the checkpoint with it that it had in work."""
    found = {}
    while len(found) < len(jobs):
        waiting = [job for job in jobs if job["folder"] not in found]
        with open(place, "w", encoding="utf-8") as file:
            json.dump(waiting, file)
        result = subprocess.run([python, "-P", os.path.join(HERE, "interop_read.py"), reader, place], capture_output=True,
                                text=True, check=False, stdin=subprocess.DEVNULL)
        lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith('{"folder"')]
        found.update((line["folder"], (line["trouble"], line["how"])) for line in lines)
        if len(found) < len(jobs):
            last = (result.stderr.strip() or "no message").splitlines()[-1]
            dead = next(job["folder"] for job in jobs if job["folder"] not in found)
            found[dead] = (f"the reader ended with status {result.returncode}: {last}", "")
    return found


def output_of(reader, case):
    return f"{case.plain if reader == 'plain' else case.quantized}.{reader}.npy"


def list_runs(cases, readers):
    """[(reader, its cases)]: the slowest first, and in as many parts as there are processors, as it takes most of the time."""
    runs = []
    for reader, python in (readers | {"plain": sys.executable}).items():
        wanted = [case for case in cases if not case.trouble and not reason_not_to_run(reader, case, python)]
        n_parts = os.cpu_count() if reader == "vllm" else 1
        runs += [(reader, wanted[part::n_parts]) for part in range(n_parts)]
    return sorted(runs, key=lambda run: run[0] != "vllm")


def run_all(cases, readers, folder):
    """{(reader, case): (trouble or None, how)}; readers that run at once have one thread each."""
    def run(number, reader, wanted):
        jobs = [{"folder": case.plain if reader == "plain" else case.quantized, "ids": case.ids().tolist(),
                 "out": output_of(reader, case)} for case in wanted]
        found = run_reader(readers.get(reader, sys.executable), reader, jobs, os.path.join(folder, f"jobs{number}.json"))
        return {(reader, case): found[job["folder"]] for case, job in zip(wanted, jobs)}

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        started = [pool.submit(run, number, *part) for number, part in enumerate(list_runs(cases, readers))]
        return {key: value for part in started for key, value in part.result().items()}


def read_all(cases, readers, folder):
    """Fills the cells: (kind, a difference or words)."""
    import numpy

    found, references = run_all(cases, readers, folder), {}
    for case in [case for case in cases if not case.trouble]:
        if trouble := found["plain", case][0]:
            case.trouble = f"no reference: {trouble}"
            continue
        references[case] = numpy.load(output_of("plain", case))
        case.moved = float(numpy.abs(case.original_log_probabilities() - references[case]).mean())
    for reader, case in [(reader, case) for reader in readers for case in cases]:
        if reason := reason_not_to_run(reader, case, readers[reader]):
            case.cells[reader] = ("not run", reason)
            continue
        trouble, case.how[reader] = found[reader, case]
        if trouble:
            case.cells[reader] = ("refused", trouble.replace(case.quantized, "CHECKPOINT"))
            continue
        difference = numpy.abs(numpy.load(output_of(reader, case)) - references[case]).mean()
        case.cells[reader] = ("read", float(difference))


# --- the tables -------------------------------------------------------------------------------------------------------


def find_known(reader, case, words):
    for known, model, label, pattern, note in cases_of.KNOWN:
        names = zip((known, model, label), (reader, case.model, case.label))
        if all(re.fullmatch(*pair) for pair in names) and re.search(pattern, words):
            return note
    return None


class Table:
    """Text of the cells; equal notes share a number."""

    def __init__(self):
        self.notes, self.n_good, self.n_bad = [], 0, 0

    def mark(self, text, note, is_good):
        self.n_good += is_good
        self.n_bad += not is_good
        if note and note not in self.notes:
            self.notes.append(note)
        text = f"{text} ({self.notes.index(note) + 1})" if note else text
        return text if is_good else f"**{text}**"

    def cell(self, reader, case):
        kind, value = case.cells.get(reader, ("not run", "not asked for"))
        if kind == "not run":
            return self.mark("not run", value, not case.trouble)
        if kind == "read" and not math.isnan(value) and value <= (LIMIT_EXPERTS if case.has_experts else LIMIT):
            return self.mark(f"{value:.4f}", case.how[reader], True)
        words, text = ("wrong", f"{value:.4f}") if kind == "read" else (value, "no")
        known = find_known(reader, case, words)
        return self.mark(text, known or words[:300], known is not None)

    def cells(self, reader, cases):
        return " / ".join(dict.fromkeys(self.cell(reader, case) for case in cases))


def print_row(*cells):
    print(f"| {' | '.join(cells)} |")


def show_families(cases, table):
    print("\n| family | moved | GPTQ: transformers | GPTQModel | vLLM | ExLlamaV2 | compressed-tensors: transformers | vLLM |")
    print("|---|---|---|---|---|---|---|---|")
    for name, models in cases_of.FAMILIES:
        of_row = [[case for case in cases if case.model in models and case.label == label]
                  for label, _ in cases_of.FAMILY_FORMATS]
        if not of_row[0] and not of_row[1]:
            continue
        moved = max((case.moved for cases in of_row for case in cases if not math.isnan(case.moved)), default=math.nan)
        print_row(name, f"{moved:.2f}", *(table.cells(reader, of_row[0]) for reader in READERS),
                  *(table.cells(reader, of_row[1]) for reader in READERS if reader not in ONLY_GPTQ))


def show_formats(cases, table):
    labels = [label for label, _ in cases_of.list_formats()]
    if not any(case.label in labels for case in cases):
        return
    print("\n| format | moved | transformers | GPTQModel | vLLM | ExLlamaV2 |\n|---|---|---|---|---|---|")
    for case in cases:
        if case.label in labels:
            print_row(case.label, f"{case.moved:.2f}", *(table.cell(reader, case) for reader in READERS))


def show(cases):
    table = Table()
    show_families(cases, table)
    show_formats(cases, table)
    print()
    for number, note in enumerate(table.notes, 1):
        print(f"({number}) {note}")
    print(f"\n{table.n_good} cells as expected, {table.n_bad} not")
    return table.n_bad == 0


# --- the whole --------------------------------------------------------------------------------------------------------


def list_cases(arguments, folder):
    """All cases that the arguments leave, each with a folder of its own."""
    every = [(model, *form) for _, models in cases_of.FAMILIES for model in models for form in cases_of.FAMILY_FORMATS]
    every += [(cases_of.FORMATS_OF, *form) for form in cases_of.list_formats()]
    cases = []
    for model, label, options in every:
        if (arguments.models and model not in arguments.models) or not re.search(arguments.only, label):
            continue
        place = os.path.join(folder, str(len(cases)))
        os.mkdir(place)
        cases.append(Case(model, label, options, place, os.path.join(folder, "models")))
    return cases


def make_all(cases, folder):
    models = os.path.join(folder, "models")
    os.mkdir(models)
    run_program(sys.executable, "-P", os.path.join(HERE, "interop_models.py"), models, *sorted({case.model for case in cases}))
    tokens, rules = os.path.join(folder, "tokens.h5"), os.path.join(folder, "rules.yaml")
    with open(rules, "w", encoding="utf-8") as file:
        file.write(cases_of.RULES)
    # every one of these tokenizers is the same: one token per character
    run_program(SHARDQ, "tokenize", "--model", cases[0].original, "--text", os.path.join(HERE, "..", "LICENSE"),
                "--samples", "64", "--length", "40", "--out", tokens)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda case: case.make(tokens, rules), cases))


def main():
    parser = argparse.ArgumentParser(prog="interop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: all")
    parser.add_argument("--only", default="", metavar="REGEX", help="of formats (default: all)")
    parser.add_argument("--readers", default=",".join(READERS), help="some of them, separated by commas (default: %(default)s)")
    parser.add_argument("--vllm", metavar="PYTHON", help="the Python interpreter that has vLLM")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = list_cases(arguments, folder)
        if not cases:
            parser.error("nothing of that name")
        make_all(cases, folder)
        pythons = {"vllm": arguments.vllm}
        read_all(cases, {reader: pythons.get(reader, sys.executable) for reader in arguments.readers.split(",")}, folder)
        sys.exit(0 if show(cases) else 1)


if __name__ == "__main__":
    main()
