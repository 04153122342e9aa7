#!/usr/bin/env python3
"""How the time of `shardq quantize` goes down with more processors (strong scaling: the same job) and stays with more work on
as many more processors (weak scaling: samples in proportion), as far as the processors of this machine go. What it takes to be
slower than ideal shows in the seconds by stage of rank 0.

Exit codes: 0 done, 1 a command failed, 2 usage."""

import argparse
import json
import os
import statistics
import sys

import measure
import plan
import plan_models

CASES = ((1, 1), (1, 2), (2, 1))  # ranks, threads of each


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR")
    parser.add_argument("--samples", type=int, default=32, metavar="N", help="of the job on all processors (32)")
    plan.add_run_arguments(parser)
    return parser.parse_args()


def run_case(job, vocabulary, case, samples):
    tokens = os.path.join(job.out, f"{samples}.h5")
    if not os.path.exists(tokens):
        plan_models.write_tokens(tokens, vocabulary, samples, job.length, 1)
    folder = os.path.join(job.out, f"{case[0]}x{case[1]}-{samples}")
    runs = [plan.run_once(job, f"{folder}-{number}", case, job.model, tokens) for number in range(job.repeat)]
    stages = {stage: statistics.median(run["stages"][stage] for run in runs) for stage in runs[0]["stages"]}
    return {"ranks": case[0], "threads": case[1], "samples": samples, "stages": stages,
            "seconds": statistics.median(run["seconds"] for run in runs)}


def show(results):
    stages = list(results[0]["stages"])
    alone = {result["samples"]: result["seconds"] for result in results if result["ranks"] * result["threads"] == 1}
    half = min(alone)
    print("| ranks x threads | samples | seconds | strong: times faster | weak: share of the time | " + " | ".join(stages) + " |")
    print("|---" * (5 + len(stages)) + "|")
    for r in results:
        whole = r["samples"] != half
        strong = f"{alone[r['samples']] / r['seconds']:.2f}"
        weak = f"{100 * alone[half] / r['seconds']:.0f} %" if whole and r["ranks"] * r["threads"] > 1 else ""
        print(f"| {r['ranks']} x {r['threads']} | {r['samples']} | {r['seconds']:.1f} | {strong} | {weak} | " +
              " | ".join(f"{r['stages'][stage]:.2f}" for stage in stages) + " |")


def main():
    job = parse_arguments()
    os.makedirs(job.out)
    with open(os.path.join(job.model, "config.json"), encoding="utf-8") as file:
        vocabulary = json.load(file)["vocab_size"]
    results = [run_case(job, vocabulary, (1, 1), job.samples // 2)]
    results += [run_case(job, vocabulary, case, job.samples) for case in CASES]
    with open(os.path.join(job.out, "results.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    show(results)


if __name__ == "__main__":
    try:
        main()
    except measure.Failed as failure:
        sys.exit(f"scaling: {failure}")
