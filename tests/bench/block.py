#!/usr/bin/env python3
"""block.py: one block of a large OPT, of generated weights, through `shardq quantize`: seconds, share of peak and memory by stage.

The model has blocks of the shapes of OPT-175B (--hidden, --ffn, --heads, --length: other sizes) and a small vocabulary. All of its
blocks are quantized; the one in the middle is measured, so that neither the start nor the end of the run is in its figures. They
come from the run's own trace (--trace), of rank 0.

    share of a stage = operations / (seconds x peak x ranks)

Operations are those that `shardq plan` counts, of one block, a multiplication and an addition being two: products and causal
attention; one triangle of X'X; n^3/3; n^2 a row, and 2 n^2 for each round of refinement, which --refine (0) sets. Peaks are the best
rates of sq_peak on the same backend, before and after the run: bf16 for forward and X'X, or f32 where the run computes in it,
f32 for factor and solve. Memory is the plan's, kind by kind, which a test compares with what is really taken.

What follows -- goes to quantize. Exit codes: 0 done, 1 failed, 2 usage."""

import argparse
import json
import os
import shutil
import sys

import measure
import plan_models

STAGES = ("read", "forward", "hessian", "factor", "solve", "gather", "store")
MACHINE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../configs/machines/h100x8.yaml")
WORK = {"forward": "product", "hessian": "product", "factor": "F32", "solve": "F32"}  # whose peak counts


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="DIR", help="new folder for model and results")
    parser.add_argument("--backend", choices=("cuda", "cpu"), default="cuda", help="cuda")
    for name, default, what in (("hidden", 12288, "inputs of a block"), ("ffn", 49152, "width of the feed-forward part"),
                                ("heads", 96, "of attention"), ("blocks", 3, "of the model, 2 at least"),
                                ("samples", 128, "of calibration"), ("length", 2048, "tokens of each"),
                                ("ranks", 1, "started by mpirun"), ("edge", 8192, "of the matrices that the peak is measured with"),
                                ("refine", 0, "most rounds of refinement"), ("threads", 0, "workers of a rank (the backend's)")):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{what} ({default})")
    parser.add_argument("--shardq", default="build/shardq", metavar="FILE")
    parser.add_argument("--peak", default="build/tests/bench/sq_peak", metavar="FILE", help="sq_peak of the same build")
    parser.add_argument("options", nargs="*", metavar="-- OPTION", help="such as -- --bits 3")
    job = parser.parse_args()
    if job.blocks < 2:
        parser.error("--blocks: the last block does less than the others; 2 at least")
    return job


def make_inputs(job):
    config = {**plan_models.OPT, "hidden_size": job.hidden, "word_embed_proj_dim": job.hidden, "ffn_dim": job.ffn, "vocab_size": 1024,
              "num_attention_heads": job.heads, "num_hidden_layers": job.blocks, "max_position_embeddings": job.length}
    model, tokens = os.path.join(job.out, "model"), os.path.join(job.out, "tokens.h5")
    plan_models.write_model(model, config, plan_models.opt_tensors, 0)
    plan_models.write_tokens(tokens, config["vocab_size"], job.samples, job.length, 1)
    return model, tokens


def measure_peaks(job):
    output = measure.output_of([job.peak, str(job.threads), job.backend, str(job.edge)])
    return [json.loads(line) for line in output.splitlines()]


def run_quantize(job, model, tokens):
    out, log, events, trace = (os.path.join(job.out, name) for name in ("quantized", "output.log", "events.jsonl", "trace.json"))
    launcher = ["mpirun", "-n", str(job.ranks)] if job.ranks > 1 else []
    measure.run([*launcher, job.shardq, "quantize", "--model", model, "--tokens", tokens, "--out", out, "--no-assemble", "--backend",
                 job.backend, *(["--threads", str(job.threads)] if job.threads else []), "--refine", str(job.refine), "--log", events,
                 "--trace", trace, *job.options], log=log)
    os.remove(out + ".store.h5")
    with open(events, encoding="utf-8") as file:
        start = json.loads(file.readline())
    with open(trace, encoding="utf-8") as file:
        return start, json.load(file)


def plan(job, model):
    machine = ["--machine", MACHINE] if job.backend == "cuda" else []  # of which nothing counts here but that it has devices
    return json.loads(measure.output_of([job.shardq, "plan", "--model", model, *machine, "--ranks", str(job.ranks), "--samples", str(job.samples), "--length", str(job.length), "--refine", str(job.refine),
                                         *(["--threads", str(job.threads)] if job.threads else []), "--json", *job.options]))


# --- figures -----------------------------------------------------------------------------------------------------------

def named(trace, what, **where):
    """The names that the trace gives to processes or to tracks, by their numbers."""
    key = "pid" if what == "process_name" else "tid"
    return {event[key]: event["args"]["name"] for event in trace["traceEvents"]
            if event["ph"] == "M" and event["name"] == what and all(event[k] == v for k, v in where.items())}


def spans_of_block(job, trace):
    """(track, name, seconds) of all spans of the block in the middle, of rank 0."""
    rank = next(pid for pid, name in named(trace, "process_name").items() if name.startswith("rank 0 "))
    tracks = named(trace, "thread_name", pid=rank)
    return [(tracks[event["tid"]], event["name"], 1e-6 * event["dur"]) for event in trace["traceEvents"]
            if event["ph"] == "X" and event["pid"] == rank and event["args"]["block"] == job.blocks // 2]


def stage_seconds(spans):
    return {stage: sum(seconds for track, name, seconds in spans if (track, name) == ("stages", stage)) for stage in STAGES}


def busy_seconds(spans):
    """How long a stream, or the reading and writing beside the stages, was busy."""
    tracks = sorted({track for track, _, _ in spans} - {"stages", "collectives"})
    return {track: sum(seconds for other, _, seconds in spans if other == track) for track in tracks}


def operations(job, planned):
    """Of one block; the solve with as many rounds of refinement as are allowed."""
    of_all = {**planned["flops"], "solve": planned["flops"]["solve"] + planned["flops"]["refine"]}
    return {stage: of_all[stage] / job.blocks for stage in WORK}


def best_rates(rates, compute):
    def best(dtype):
        return max(1e9 * rate["gflops"] for rate in rates if rate["dtype"].upper() == dtype)
    return {"F32": best("F32"), "product": best(compute.upper())}


def show(job, figures):
    seconds, work, peaks, planned = (figures[name] for name in ("seconds", "operations", "peaks", "plan"))
    total = sum(seconds.values())
    print(f"a block of {job.hidden} x {job.ffn}, {job.samples} x {job.length} tokens, {job.ranks} x {figures['device']}\n"
          f"peak: {peaks['product'] / 1e12:.4g} TFLOP/s in {figures['compute']}, {peaks['F32'] / 1e12:.4g} in F32\n")
    print("| stage | seconds | operations | share of peak |\n|---|---|---|---|")
    for stage in STAGES:
        cells = f"{work[stage]:.4g} | {100 * work[stage] / (seconds[stage] * job.ranks * peaks[WORK[stage]]):.1f} %" \
            if stage in WORK else "- | -"
        print(f"| {stage} | {seconds[stage]:.3f} | {cells} |")
    print(f"| the block | {total:.3f} | {sum(work.values()):.4g} | - |\n")
    print("| beside the stages | seconds |\n|---|---|")
    for name, value in figures["busy"].items():
        print(f"| {name} | {value:.3f} |")
    print("\n| memory | backend, MiB | beside, on the host, MiB |\n|---|---|---|")
    for kind, value in planned["memory"].items():
        print(f"| {kind} | {value / 2**20:.1f} | {planned['host_memory'][kind] / 2**20:.1f} |")
    print(f"| in all | {planned['memory_bytes'] / 2**20:.1f} | {planned['host_bytes'] / 2**20:.1f} |")


def main():
    job = parse_arguments()
    os.makedirs(job.out)
    model, tokens = make_inputs(job)
    rates = measure_peaks(job)
    start, trace = run_quantize(job, model, tokens)
    rates += measure_peaks(job)
    planned = plan(job, model)
    shutil.rmtree(model)
    spans = spans_of_block(job, trace)
    figures = {"device": rates[0]["device"], "compute": start["compute"], "peaks": best_rates(rates, start["compute"]),
               "seconds": stage_seconds(spans), "busy": busy_seconds(spans), "operations": operations(job, planned),
               "plan": planned, "rates": rates}
    with open(os.path.join(job.out, "results.json"), "w", encoding="utf-8") as file:
        json.dump(figures, file, indent=1)
    show(job, figures)


if __name__ == "__main__":
    try:
        main()
    except measure.Failed as failure:
        sys.exit(f"block: {failure}")
