#!/usr/bin/env python3
"""What `shardq plan` predicts beside what a run takes, on this machine: four models, one rank of two threads and two ranks of
one. The machine is described once, by `shardq bench` on the same ranks, before anything is predicted.

Times are those of the run's own summary: in all, and of each stage of rank 0.
Exit codes: 0 every time within the tolerance, 1 not, 2 usage."""

import argparse
import json
import os
import shlex
import shutil
import statistics
import sys

import measure
import plan_models
import run_log

CASES = ((1, 2), (2, 1))  # ranks, threads of each


def add_run_arguments(parser):
    """What run_once() and its callers want to know."""
    parser.add_argument("--out", required=True, metavar="DIR", help="new folder for the results")
    parser.add_argument("--length", type=int, default=512, metavar="N", help="tokens of a sample (512)")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="runs of each, of which the middle counts (1)")
    parser.add_argument("--before", default="", metavar="WORDS", help="put before every command that is timed")
    parser.add_argument("--shardq", default="build/shardq", metavar="FILE")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR", help="the first of the four models")
    parser.add_argument("--samples", type=int, default=32, metavar="N", help="of the first model, and 3/4 of it of the others (32)")
    parser.add_argument("--tolerance", type=float, default=0.2, metavar="X", help="of the whole time (0.2)")
    add_run_arguments(parser)
    return parser.parse_args()


def launch(job, ranks, *words):
    return [*shlex.split(job.before), *(["mpirun", "-n", str(ranks)] if ranks > 1 else []), job.shardq, *words]


def predict(job, machine, case, model, samples):
    ranks, threads = case
    output = measure.output_of([job.shardq, "plan", "--model", model, "--machine", machine, "--ranks", str(ranks), "--threads",
                                str(threads), "--samples", str(samples), "--length", str(job.length), "--json"])
    return json.loads(output)


def run_once(job, folder, case, model, tokens):
    ranks, threads = case
    os.makedirs(folder)
    out, log, events = (os.path.join(folder, name) for name in ("out", "output.log", "events.jsonl"))
    measure.run(launch(job, ranks, "quantize", "--model", model, "--tokens", tokens, "--out", out, "--log", events, "--threads",
                       str(threads)), log=log)
    lines = run_log.read_events(events)
    shutil.rmtree(out)
    os.remove(out + ".store.h5")
    return {"seconds": lines[-1]["seconds"], "stages": run_log.stage_seconds(log)}


def run_case(job, machine, name, model, case):
    samples = job.samples if model == job.model else job.samples * 3 // 4
    with open(os.path.join(model, "config.json"), encoding="utf-8") as file:
        vocabulary = json.load(file)["vocab_size"]
    tokens = os.path.join(job.out, f"{name}.h5")
    if not os.path.exists(tokens):
        plan_models.write_tokens(tokens, vocabulary, samples, job.length, 1)
    predicted = predict(job, machine, case, model, samples)
    folder = os.path.join(job.out, f"{name}-{case[0]}")
    runs = [run_once(job, f"{folder}-{number}", case, model, tokens) for number in range(job.repeat)]
    return {"name": name, "ranks": case[0], "threads": case[1], "predicted": predicted, "runs": runs,
            "seconds": statistics.median(run["seconds"] for run in runs)}


def show(results):
    stages = list(results[0]["predicted"]["stages"])
    print("| model | ranks x threads | predicted, s | measured, s | error | " + " | ".join(stages) + " |")
    print("|---" * (5 + len(stages)) + "|")
    for r in results:
        seconds = r["predicted"]["seconds"]
        cells = []
        for stage in stages:
            measured = statistics.median(run["stages"][stage] for run in r["runs"])
            cells.append(f"{r['predicted']['stages'][stage]['seconds']:.2f} / {measured:.2f}")
        print(f"| {r['name']} | {r['ranks']} x {r['threads']} | {seconds:.1f} | {r['seconds']:.1f} | "
              f"{100 * (seconds / r['seconds'] - 1):+.0f} % | " + " | ".join(cells) + " |")


def main():
    job = parse_arguments()
    os.makedirs(job.out)
    machine = os.path.join(job.out, "machine.yaml")
    measure.output_of(launch(job, 2, "bench", "--threads", "1", "--out", machine))
    models = [(os.path.basename(os.path.abspath(job.model)), job.model), *plan_models.make(job.out)]
    results = [run_case(job, machine, name, model, case) for name, model in models for case in CASES]
    with open(os.path.join(job.out, "results.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    show(results)
    worst = max(abs(r["predicted"]["seconds"] / r["seconds"] - 1) for r in results)
    sys.exit(worst > job.tolerance)


if __name__ == "__main__":
    try:
        main()
    except measure.Failed as failure:
        sys.exit(f"plan: {failure}")
