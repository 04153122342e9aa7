#!/usr/bin/env python3
"""oracle.py: how far the errors of shardq's layers are from those of GPTQ in double precision, layer by layer.

quantize with the reference's settings (reference grid, no refinement) and --propagation original, so that every layer has the
inputs of the unquantized model; oracle_errors.py computes the same from the formulas with torch. Errors are
tr((W-Q) H (W-Q)') / tr(W H W') on the calibration samples. Exit codes: 0 done and every layer within --within, 1 not, 2 usage."""

import argparse
import json
import os
import statistics
import sys

import make_tokens
import measure
import run_log


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR")
    make_tokens.add_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="new folder for the results")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 3])
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--compute", default="fp32", metavar="TYPE", help="as for quantize (fp32)")
    parser.add_argument("--within", type=float, default=0.01, metavar="SHARE", help="of the oracle's error (0.01)")
    parser.add_argument("--shardq", default="build/shardq", metavar="FILE")
    parser.add_argument("--python", required=True, metavar="FILE", help="one that has torch and transformers")
    return parser.parse_args()


def shardq_errors(job, tokens, bits):
    name = os.path.join(job.out, f"{bits}-bits")
    measure.run([job.shardq, "quantize", "--model", job.model, "--tokens", tokens, "--store", name + ".h5", "--no-assemble",
                 "--bits", str(bits), "--group-size", str(job.group_size), "--grid", "reference", "--refine", "0",
                 "--propagation", "original", "--compute", job.compute, "--log", name + ".jsonl"], log=name + ".log")
    return {event["name"]: event["error"] for event in run_log.read_events(name + ".jsonl") if event["event"] == "layer"}


def oracle_errors(job, tokens, bits):
    out = os.path.join(job.out, f"oracle-{bits}-bits.json")
    measure.run([job.python, os.path.join(os.path.dirname(__file__), "oracle_errors.py"), job.model, tokens, str(bits),
                 str(job.group_size), out], log=os.path.join(job.out, "oracle.log"))
    with open(out, encoding="utf-8") as file:
        return json.load(file)


def main():
    job = parse_arguments()
    os.makedirs(job.out)
    (tokens, *_), _, _ = make_tokens.make(job)
    samples = os.path.join(job.out, "tokens.npy")
    make_tokens.write_npy(tokens, samples)
    print("| bits | layers | error, mean | oracle's | ratio, mean | lowest | highest | of |\n|---|---|---|---|---|---|---|---|")
    farthest = 0
    for bits in job.bits:
        ours, oracle = shardq_errors(job, tokens, bits), oracle_errors(job, samples, bits)
        ratios = {name: error / oracle[name] for name, error in ours.items()}
        worst = max(ratios, key=lambda name: abs(ratios[name] - 1))
        farthest = max(farthest, abs(ratios[worst] - 1))
        print(f"| {bits} | {len(ratios)} | {statistics.mean(ours.values()):.5e} | {statistics.mean(oracle.values()):.5e} | "
              f"{statistics.mean(ratios.values()):.5f} | {min(ratios.values()):.5f} | {max(ratios.values()):.5f} | {worst} |")
    return int(farthest > job.within)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except measure.Failed as failure:
        sys.exit(f"oracle: {failure}")
