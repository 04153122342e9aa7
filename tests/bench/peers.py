#!/usr/bin/env python3
"""peers.py: shardq, GPTQModel and llm-compressor on the same model and tokens, in turn, on all processors.

Started by peers.sh, which makes the environments. One repetition runs every contender once, A B C D, then the next
begins: what else happens on the machine falls on all alike. Repetition r uses calibration seed r (from the first again when
there are more repetitions). OUT gets results.json, table.md and the output of every run; checkpoints are removed after their
evaluation.
Exit codes: 0 done, 1 failed, 2 usage."""

import argparse
import json
import os
import platform
import shutil
import sys

import contenders
import cut_model
import make_tokens
import measure
import peers_table


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR")
    make_tokens.add_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="new folder for the results")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="repetitions (1)")
    parser.add_argument("--blocks", type=int, metavar="K", help="only the first K blocks of the model; speed only")
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8, help="samples of one forward pass of a peer (8)")
    parser.add_argument("--isa", choices=("auto", "avx2"), default="auto",
                        help="instructions that everybody may use: all that the processor has (auto), or AVX2 at most")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), help="of the peers' forward pass (the one in which "
                        "their torch does a linear layer in less time)")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="only contenders whose name contains one of these")
    parser.add_argument("--shardq", default="build/shardq", metavar="FILE")
    arguments = parser.parse_args()
    if arguments.dtype is None:
        arguments.dtype = contenders.faster_dtype(arguments.isa)
    return arguments


# --- what is compared --------------------------------------------------------------------------------------------------

def all_contenders(isa):
    n = len(os.sched_getaffinity(0))
    # GPTQModel's own default, half the processors, is one worker on two processors, which its loader refuses.
    workers = {"TORCHDYNAMO_DISABLE": "1", "GPTQMODEL_CPU_WORKERS": str(max(2, min(12, (n + 1) // 2))),
               **contenders.ISA_LIMITS[isa]}
    return [contenders.Shardq(1, n, isa), contenders.Shardq(2, max(1, n // 2), isa),
            contenders.Peer("GPTQModel", os.environ["BENCH_GPTQMODEL_PYTHON"], "peer_gptqmodel.py", workers),
            contenders.Peer("llm-compressor", os.environ["BENCH_LLMCOMPRESSOR_PYTHON"], "peer_llmcompressor.py",
                            contenders.ISA_LIMITS[isa], unpack="unpack_llmcompressor.py")]


def chosen_contenders(only, isa):
    chosen = [c for c in all_contenders(isa) if not only or any(text in c.name for text in only)]
    if not chosen:
        sys.exit(f"peers: no contender is called {' or '.join(only)}")
    return chosen


def describe(job):
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        processor = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    blocks = f" (first {job.blocks} blocks)" if job.blocks else ""
    limit = "" if job.isa == "auto" else f", held to {job.isa}"
    return (f"{os.path.basename(os.path.normpath(job.model))}{blocks}, {job.samples} samples of {job.length} tokens, "
            f"{job.bits} bits, symmetric, groups of {job.group_size}; {len(os.sched_getaffinity(0))} x {processor}{limit}; "
            f"peers in {job.dtype}, batches of {job.batch}")


# --- running -----------------------------------------------------------------------------------------------------------

def run_once(contender, job, paths):
    figures = measure.run(contender.command(job, paths), log=paths.log, env=contender.environment)
    contender.finish(paths, figures)
    return figures


def evaluate(job, folder, log=None):
    return json.loads(measure.output_of([job.shardq, "eval", "--model", folder, "--tokens", job.evaluation, "--json"], log))


def remove_large(paths):
    for folder in (paths.out, paths.plain):
        shutil.rmtree(folder, ignore_errors=True)
    for name in os.listdir(paths.folder):
        if "store.h5" in name:
            os.remove(os.path.join(paths.folder, name))


def warm_up(chosen, job):
    """Each peer once on one block and two samples, unmeasured: files come into the page cache, GPTQModel builds its packing
    extension. shardq has nothing to warm up."""
    small = argparse.Namespace(**vars(job))
    small.model, small.tokens_npy = os.path.join(job.out, "warm-up-model"), os.path.join(job.out, "warm-up.npy")
    cut_model.cut(job.model, 1, small.model)
    make_tokens.write_npy(job.calibration[0], small.tokens_npy, 2)
    for number, contender in enumerate(chosen):
        if isinstance(contender, contenders.Peer):
            print(f"warming up {contender.name}", file=sys.stderr, flush=True)
            paths = contenders.Paths(os.path.join(job.out, f"warm-up-{number}"))
            run_once(contender, small, paths)
            remove_large(paths)
    shutil.rmtree(small.model)


def run_all(chosen, job, results):
    for repetition in range(job.repeat):
        job.tokens = job.calibration[repetition % len(job.calibration)]
        job.tokens_npy = os.path.join(job.out, "tokens.npy")
        make_tokens.write_npy(job.tokens, job.tokens_npy)
        for number, contender in enumerate(chosen):
            paths = contenders.Paths(os.path.join(job.out, f"run-{repetition}-{number}"))
            figures = run_once(contender, job, paths)
            if job.evaluation and repetition < len(job.calibration):
                figures.update(nll=evaluate(job, contender.readable(paths), paths.log)["nll"])
            remove_large(paths)
            results["runs"][contender.name].append({**figures, "tokens": job.tokens})
            print(f"repetition {repetition + 1}/{job.repeat}: {contender.name}: {figures['wall']:.1f} s", file=sys.stderr,
                  flush=True)
            write_results(results, job.out)


def write_results(results, out):
    with open(os.path.join(out, "results.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
    with open(os.path.join(out, "table.md"), "w", encoding="utf-8") as file:
        file.write(peers_table.render(results))


def main():
    job = parse_arguments()
    chosen = chosen_contenders(job.only, job.isa)
    os.makedirs(job.out)
    job.calibration, _, job.evaluation = make_tokens.make(job)
    title = describe(job)
    if job.blocks:  # what is left of the model predicts nothing
        whole, job.evaluation = job.model, None
        job.model = os.path.join(job.out, "model")
        cut_model.cut(whole, job.blocks, job.model)
    results = {"title": title, "runs": {contender.name: [] for contender in chosen}}
    if job.evaluation:
        results["original"] = evaluate(job, job.model)
    warm_up(chosen, job)
    run_all(chosen, job, results)
    print(peers_table.render(results), end="")


if __name__ == "__main__":
    try:
        main()
    except measure.Failed as failure:
        sys.exit(f"peers: {failure}")
