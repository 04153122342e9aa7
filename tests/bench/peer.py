"""What the scripts that run a peer (peer_*.py) have in common: arguments, samples, the clock around the quantize call."""

import argparse
import contextlib
import json
import os
import resource
import time

import numpy
import torch


def parse_arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--model", required=True, help="model folder")
    parser.add_argument("--tokens", required=True, help="calibration samples, .npy int32 [samples, length]")
    parser.add_argument("--out", required=True, help="folder of the new checkpoint")
    parser.add_argument("--report", required=True, help="JSON file for the figures of the quantize call")
    parser.add_argument("--bits", type=int, required=True)
    parser.add_argument("--group-size", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True, help="samples of one forward pass")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), required=True)
    arguments = parser.parse_args()
    arguments.dtype = getattr(torch, arguments.dtype)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    return arguments


def read_samples(path):
    """A list of int64 tensors, one for each sample."""
    return list(torch.from_numpy(numpy.load(path).astype(numpy.int64)))


def cpu_seconds():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


@contextlib.contextmanager
def clock(path):
    """Writes the wall and CPU seconds of the enclosed call to a JSON file."""
    wall, cpu = time.monotonic(), cpu_seconds()
    yield
    figures = {"call_wall": time.monotonic() - wall, "call_cpu": cpu_seconds() - cpu}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(figures, file)
