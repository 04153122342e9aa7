#!/usr/bin/env python3
"""quality.py: what each part of the method gains, as a table: layer errors on calibration and held-out inputs, and loss.

Each setting quantizes the model once per seed (a drawing of calibration samples). Layer errors tr((W-Q) H (W-Q)') / tr(W H W')
are taken relative to those of GPTQ in activation order with the reference grid, same seed, layer by layer, and averaged over
layers. H of the calibration samples is that of the run itself (quantize --log). H of the held-out samples comes from `shardq
verify`: a layer's inputs are those that the quantized model itself computes from held-out text, in both cases. Loss is the mean
negative log-likelihood of evaluation windows (`shardq eval`). No text is shared among the three (make_tokens.py).

± is the standard error over seeds: how much depends on the drawing of the calibration, not on the choice of the evaluation text.
OUT keeps results.jsonl; a run that was interrupted, or one with more seeds, goes on from
there. Exit codes: 0 done, 1 failed, 2 usage."""

import argparse
import hashlib
import json
import os
import shutil
import sys

import make_tokens
import measure
import quality_table
import run_log

PLAIN = ("--grid", "reference", "--refine", "0")
SETTINGS = {
    "rounding": ("plain rounding", ("--solver", "rtn", *PLAIN)),
    "paper": ("GPTQ as in its paper: natural order, asymmetric", ("--order", "natural", "--asymmetric", *PLAIN)),
    "natural": ("GPTQ, natural order, reference grid", ("--order", "natural", *PLAIN)),
    "activation": ("+ activation order", ("--order", "activation", *PLAIN)),
    "search": ("+ search for the scales", ("--refine", "0")),
    "refine1": ("+ one round of refinement", ("--refine", "1")),
    "refine4": ("+ up to four (the defaults)", ()),
    "obq": ("OBQ, reference grid", ("--solver", "obq", *PLAIN)),
}
BASE = "activation"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR")
    make_tokens.add_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for tokens and results")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 3])
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, metavar="NAME",
                        default=[name for name in SETTINGS if name != "obq"],
                        help=f"among {', '.join(SETTINGS)} (all but obq, which takes hours on a whole model)")
    parser.add_argument("--layers", metavar="REGEX", help="quantize only layers whose name contains this")
    parser.add_argument("--compute", default="auto", metavar="TYPE", help="as for quantize (auto)")
    parser.add_argument("--shardq", default="build/shardq", metavar="FILE")
    job = parser.parse_args()
    job.settings = [name for name in SETTINGS if name in {BASE, *job.settings}]
    return job


# --- one run -----------------------------------------------------------------------------------------------------------

def quantize_options(job, bits, setting):
    only = ("--skip", f"^(?!.*(?:{job.layers}))") if job.layers else ()
    return ("--bits", str(bits), "--group-size", str(job.group_size), "--compute", job.compute, *only, *SETTINGS[setting][1])


def layer_errors(events):
    return {event["name"]: event["error"] for event in run_log.read_events(events) if event["event"] == "layer"}


def evaluate(job, folder, tokens, log):
    text = measure.output_of([job.shardq, "eval", "--model", folder, "--tokens", tokens, "--compute", job.compute, "--json"], log)
    return json.loads(text)["nll"]


def verify(job, folder, tokens, log):
    text = measure.output_of([job.shardq, "verify", "--model", job.model, "--checkpoint", folder, "--tokens", tokens, "--compute",
                              job.compute, "--json"], log)
    return {layer["name"]: layer["error"] for layer in map(json.loads, text.splitlines())}


def run(job, tokens, bits, setting, seed):
    calibration, held_out, evaluation = tokens
    folder = os.path.join(job.out, "run")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    out, log, events = (os.path.join(folder, name) for name in ("out", "output.log", "events.jsonl"))
    figures = measure.run([job.shardq, "quantize", "--model", job.model, "--tokens", calibration[seed], "--out", out, "--log",
                           events, *quantize_options(job, bits, setting)], log=log)
    result = {"bits": bits, "setting": setting, "seed": seed, "seconds": figures["wall"], "calibration": layer_errors(events),
              "held_out": verify(job, out, held_out, log), "loss": evaluate(job, out, evaluation, log)}
    shutil.rmtree(folder)
    return result


# --- all of them -------------------------------------------------------------------------------------------------------

def fingerprint(job):
    """What has to be the same for results to be put into one table."""
    with open(job.shardq, "rb") as file:
        program = hashlib.sha256(file.read()).hexdigest()
    kept = ("model", "text", "samples", "length", "windows", "window_length", "group_size", "layers", "compute")
    return {"program": program, **{key: getattr(job, key) for key in kept}}


def check_fingerprint(job):
    path, mine = os.path.join(job.out, "settings.json"), fingerprint(job)
    if not os.path.exists(path):
        with open(path, "w", encoding="utf-8") as file:
            json.dump(mine, file, indent=1)
        return
    with open(path, encoding="utf-8") as file:
        theirs = json.load(file)
    other = [key for key in mine if mine[key] != theirs.get(key)]
    if other:
        sys.exit(f"quality: {job.out} holds results of another {', '.join(other)}; choose another --out")


def read_results(path):
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def run_missing(job, tokens, path):
    done = {(result["bits"], result["setting"], result["seed"]) for result in read_results(path)}
    wanted = [(bits, setting, seed) for seed in range(job.seeds) for bits in job.bits for setting in job.settings]
    missing = [key for key in wanted if key not in done]
    for number, key in enumerate(missing):
        result = run(job, tokens, *key)
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
        print(f"{number + 1}/{len(missing)}: {key[0]} bits, {key[1]}, seed {key[2]}: loss {result['loss']:.4f}", file=sys.stderr,
              flush=True)


def main():
    job = parse_arguments()
    os.makedirs(job.out, exist_ok=True)
    check_fingerprint(job)
    tokens = make_tokens.make(job)
    path = os.path.join(job.out, "results.jsonl")
    run_missing(job, tokens, path)
    original = evaluate(job, job.model, tokens[2], os.path.join(job.out, "original.log"))
    titles = {name: SETTINGS[name][0] for name in job.settings}
    table = quality_table.render(read_results(path), job.bits, titles, BASE, original)
    with open(os.path.join(job.out, "table.md"), "w", encoding="utf-8") as file:
        file.write(table)
    print(table, end="")


if __name__ == "__main__":
    try:
        main()
    except measure.Failed as failure:
        sys.exit(f"quality: {failure}")
