#!/usr/bin/env python3
"""efficiency.py: which share of the machine's arithmetic peak `shardq quantize` reaches, over its whole wall time.

    share = (bf16 operations / bf16 peak + f32 operations / f32 peak) / wall seconds

Operations are those that `shardq plan` counts, a multiplication and an addition being two: products of the forward pass and
causal attention, one triangle of X'X, n^3/3 of the factorization, n^2 a row for the solve; and 2 n^2 a row for each round of
refinement that the run says it made. Each counts once, whatever the number of ranks; norms, softmax, rotations, searches for
scales, packing, sums and all reading and writing count as nothing and cost time. Forward pass and X'X are bf16 where the run
says so, the rest is f32. The errors in the report are another n^2 a row twice, for w H w' and for plain rounding's e H e': the
share is given without them and with them.

Peaks are the best rates of sq_peak, taken before and after the runs, with all threads at once, of any shape and operation.
Wall is that of the process (or of mpirun), from its start to the written checkpoint. What follows -- goes to quantize and to
plan. Exit codes: 0 done, 1 failed, 2 usage."""

import argparse
import json
import os
import shutil
import statistics
import sys

import make_tokens
import measure
import run_log

STAGES = ("forward", "hessian", "factor", "solve")  # those that compute; refinement is part of solve


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR")
    make_tokens.add_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="new folder for the results")
    parser.add_argument("--ranks", type=int, default=1, metavar="N")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="of each rank (all processors / ranks)")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs of quantize (3)")
    parser.add_argument("--shardq", default="build/shardq", metavar="FILE")
    parser.add_argument("--peak", default="build/tests/bench/sq_peak", metavar="FILE", help="sq_peak of the same build")
    parser.add_argument("options", nargs="*", metavar="-- OPTION", help="such as -- --refine 0")
    arguments = parser.parse_args()
    arguments.threads = arguments.threads or max(1, len(os.sched_getaffinity(0)) // arguments.ranks)
    return arguments


def measure_rates(job):
    output = measure.output_of([job.peak, str(job.ranks * job.threads)])
    return [json.loads(line) for line in output.splitlines()]


def best_rate(rates, dtype):
    """Operations per second of the best product of this type, or None where the processor has no such products."""
    return max((1e9 * rate["gflops"] for rate in rates if rate["dtype"].upper() == dtype), default=None)


def count_operations(job, layers):
    """Operations by kind; layers: the events of one run's layers, which tell how many rounds of refinement each took."""
    command = [job.shardq, "plan", "--model", job.model, "--samples", str(job.samples), "--length", str(job.length),
               "--threads", str(job.threads), "--json", *job.options]
    planned = json.loads(measure.output_of(command))["flops"]
    rounds = sum(2 * layer["out_features"] * layer["in_features"] ** 2 * layer["rounds"] for layer in layers)
    errors = sum(2 * layer["out_features"] * layer["in_features"] ** 2 for layer in layers)
    return {**planned, "refine": rounds, "errors": errors}  # refine in place of an upper bound


# --- one run -----------------------------------------------------------------------------------------------------------

def run_quantize(job, tokens, number):
    folder = os.path.join(job.out, f"run-{number}")
    os.makedirs(folder)
    out, log, events = (os.path.join(folder, name) for name in ("out", "output.log", "events.jsonl"))
    launcher = ["mpirun", "-n", str(job.ranks)] if job.ranks > 1 else []
    figures = measure.run([*launcher, job.shardq, "quantize", "--model", job.model, "--tokens", tokens, "--out", out, "--log",
                           events, "--threads", str(job.threads), *job.options], log=log)
    lines = run_log.read_events(events)
    shutil.rmtree(out)
    os.remove(out + ".store.h5")
    return {**figures, "call_wall": lines[-1]["seconds"], "compute": lines[0]["compute"], "stages": run_log.stage_seconds(log),
            "layers": [line for line in lines if line["event"] == "layer"]}


# --- shares ------------------------------------------------------------------------------------------------------------

def seconds_at_peak(operations, stage, peaks):
    """What the stage would take at the peak."""
    work = operations[stage] + (operations["refine"] if stage == "solve" else 0)
    return work / peaks["product" if stage in ("forward", "hessian") else "F32"]


def show_shares(what, total, errors, runs, wall):
    """Run by run, without the report's errors and with them."""
    print(f"share of peak over {what}, run by run: " +
          ", ".join(f"{100 * total / run[wall]:.1f} % ({100 * (total + errors) / run[wall]:.1f} %)" for run in runs))


def show(job, rates, operations, runs):
    peaks = {"F32": best_rate(rates, "F32"), "product": best_rate(rates, runs[0]["compute"].upper())}
    ideal = {stage: seconds_at_peak(operations, stage, peaks) for stage in STAGES}
    total, errors = sum(ideal.values()), operations["errors"] / peaks["F32"]
    print(f"peak of {job.ranks * job.threads} threads: {peaks['product'] / 1e9:.0f} GFLOP/s in {runs[0]['compute']}, "
          f"{peaks['F32'] / 1e9:.0f} in F32")
    print("operations: " + ", ".join(f"{name} {value:.4g}" for name, value in operations.items()))
    print(f"rounds of refinement: {operations['refine'] / (2 * operations['solve']):.2f}, by work\n")
    print("| stage (rank 0) | seconds | at peak |\n|---|---|---|")
    for stage in runs[0]["stages"]:
        seconds = statistics.median(run["stages"][stage] for run in runs)
        print(f"| {stage} | {seconds:.2f} | {f'{ideal[stage]:.2f}' if stage in ideal else '-'} |")
    wall = statistics.median(run["wall"] for run in runs)
    print(f"| whole process | {wall:.2f} | {total:.2f} |\n")
    print(f"the errors in the report (solve): {errors:.2f} s at peak; in brackets with them")
    show_shares("the wall time of the process", total, errors, runs, "wall")
    show_shares("the program's own time (without MPI's start)", total, errors, runs, "call_wall")


def main():
    job = parse_arguments()
    os.makedirs(job.out)
    (tokens, *_), _, _ = make_tokens.make(job)
    rates = measure_rates(job)
    runs = [run_quantize(job, tokens, number) for number in range(job.repeat)]
    rates += measure_rates(job)
    operations = count_operations(job, runs[0]["layers"])
    with open(os.path.join(job.out, "results.json"), "w", encoding="utf-8") as file:
        json.dump({"rates": rates, "operations": operations, "runs": runs}, file, indent=1)
    show(job, rates, operations, runs)


if __name__ == "__main__":
    try:
        main()
    except measure.Failed as failure:
        sys.exit(f"efficiency: {failure}")
