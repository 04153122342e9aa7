#!/usr/bin/env python3
"""How fast a store is written beside `dd` on the same disk: as many bytes by dd (conv=fsync), and by 1 and 2 ranks of
sq_store_write, in turn. Of each the middle of the repetitions counts.

Exit codes: 0 every number of ranks reaches the wanted share of dd's rate, 1 not, 2 usage."""

import argparse
import json
import os
import statistics
import sys
import time

import measure


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, metavar="DIR", help="new folder on the disk in question")
    parser.add_argument("--megabytes", type=int, default=512, metavar="N", help="to write each time (512)")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="(5)")
    parser.add_argument("--share", type=float, default=0.8, metavar="X", help="that is wanted of dd's rate (0.8)")
    parser.add_argument("--writer", default="build/tests/bench/sq_store_write", metavar="FILE")
    return parser.parse_args()


def write_by_dd(path, count):
    began = time.monotonic()
    measure.output_of(["dd", "if=/dev/zero", f"of={path}", "bs=1M", f"count={count}", "conv=fsync",
                       "status=none"])
    seconds = time.monotonic() - began
    size = os.path.getsize(path)
    os.remove(path)
    return size / seconds


def write_store(job, path, ranks):
    rows, columns = 4096, 4096  # 8 MiB of codes a layer
    layers = max(1, job.megabytes * 2**20 // (rows * columns // 2))
    launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
    figures = json.loads(measure.output_of([*launcher, job.writer, path, str(layers), str(rows), str(columns)]))
    for name in os.listdir(os.path.dirname(path)):
        if name.startswith(os.path.basename(path)):
            os.remove(os.path.join(os.path.dirname(path), name))
    return figures["bytes"] / figures["filling"]


def main():
    job = parse_arguments()
    os.makedirs(job.out)
    path = os.path.join(job.out, "file")
    rates = {"dd": [], 1: [], 2: []}
    for _ in range(job.repeat):
        rates["dd"].append(write_by_dd(path, job.megabytes))
        for ranks in (1, 2):
            rates[ranks].append(write_store(job, path, ranks))
    middle = {who: statistics.median(rates[who]) for who in rates}
    print("| | MB/s | of dd | all, MB/s |\n|---|---|---|---|")
    for who, rate in middle.items():
        name = who if who == "dd" else f"store, {who} rank{'s' if who > 1 else ''}"
        print(f"| {name} | {rate / 1e6:.0f} | {100 * rate / middle['dd']:.0f} % | " +
              ", ".join(f"{r / 1e6:.0f}" for r in rates[who]) + " |")
    sys.exit(min(middle[1], middle[2]) < job.share * middle["dd"])


if __name__ == "__main__":
    try:
        main()
    except measure.Failed as failure:
        sys.exit(f"store: {failure}")
