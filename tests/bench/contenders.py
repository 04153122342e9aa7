"""The programs that peers.py compares: how each is called, and how its result becomes something `shardq eval` reads.

A contender is a function (job, paths) -> command, where paths names the fresh folder of this run and the files in it."""

import glob
import json
import os
import sys

import measure
import run_log

# What holds the libraries under PyTorch to an instruction set (ATen, oneDNN and MKL document one variable each).
ISA_LIMITS = {
    "auto": {},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}

HERE = os.path.dirname(os.path.realpath(__file__))


class Paths:
    """The files of one run."""

    def __init__(self, folder):
        os.makedirs(folder)
        self.folder = folder
        self.out, self.plain = os.path.join(folder, "out"), os.path.join(folder, "plain")
        self.report, self.log = os.path.join(folder, "report.json"), os.path.join(folder, "output.log")


def faster_dtype(isa):
    """The type that is the faster one for the peers on this processor, by a look at its clock."""
    script = os.path.join(HERE, "peer_dtype.py")
    return measure.output_of([os.environ["BENCH_GPTQMODEL_PYTHON"], script], env=ISA_LIMITS[isa]).strip()


class Shardq:
    """`shardq quantize` with its own defaults; under mpirun every rank is measured by itself, for its memory."""

    def __init__(self, ranks, threads, isa):
        self.ranks, self.threads, self.isa = ranks, threads, isa
        self.name = f"shardq, {ranks} rank{'s' if ranks > 1 else ''} x {threads} thread{'s' if threads > 1 else ''}"
        self.environment = {}

    def command(self, job, paths):
        command = [job.shardq, "quantize", "--model", job.model, "--tokens", job.tokens, "--out", paths.out, "--store",
                   os.path.join(paths.folder, "store.h5"), "--bits", str(job.bits), "--group-size", str(job.group_size),
                   "--threads", str(self.threads), "--isa", self.isa, "--log", paths.report]
        if self.ranks == 1:
            return command
        return ["mpirun", "-n", str(self.ranks), sys.executable, os.path.join(HERE, "measure.py"), paths.folder, "--"] + command

    def finish(self, paths, figures):
        """The call, as of the peers: what the program itself counts, without reading the model and writing the checkpoint."""
        stages = run_log.stage_seconds(paths.log)
        figures["call_wall"] = run_log.read_events(paths.report)[-1]["seconds"] - stages["read"] - stages["assemble"]
        figures["stages"] = stages
        ranks = glob.glob(os.path.join(paths.folder, "[0-9]*.json"))
        if ranks:
            figures["peak_mb"] = sum(json.load(open(path, encoding="utf-8"))["peak_mb"] for path in ranks)

    def readable(self, paths):
        return paths.out


class Peer:
    """A Python program, run by the interpreter of its own environment."""

    def __init__(self, name, python, script, environment, unpack=None):
        self.name, self.python, self.script, self.unpack = name, python, script, unpack
        self.environment = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))), **environment}

    def command(self, job, paths):
        return [self.python, os.path.join(HERE, self.script), "--model", job.model, "--tokens",
                job.tokens_npy, "--out", paths.out, "--report", paths.report, "--bits", str(job.bits), "--group-size",
                str(job.group_size), "--batch", str(job.batch), "--dtype", job.dtype]

    def finish(self, paths, figures):
        with open(paths.report, encoding="utf-8") as file:
            figures.update(json.load(file))

    def readable(self, paths):
        if self.unpack is None:
            return paths.out
        measure.run([self.python, os.path.join(HERE, self.unpack), paths.out, paths.plain], log=paths.log)
        return paths.plain
