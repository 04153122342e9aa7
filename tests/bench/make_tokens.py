"""Token files for a benchmark: calibration (one per seed), held-out and evaluation, from texts that are cut so that no two
of them share a line.

Every text is cut in three at line ends: its first half is for calibration, the next 15 % are held out, the rest is for
evaluation. Calibration and held-out samples are drawn from all texts in equal shares; the evaluation is consecutive windows
of the first text alone."""

import os

import h5py
import numpy

import measure

CALIBRATION_END, HELD_OUT_END = 0.50, 0.65


def add_arguments(parser, samples=32, length=512):
    parser.add_argument("--text", required=True, nargs="+", metavar="FILE.txt", help="English text; evaluation takes the first")
    parser.add_argument("--samples", type=int, default=samples, metavar="N", help=f"calibration samples ({samples})")
    parser.add_argument("--length", type=int, default=length, metavar="N", help=f"tokens of each ({length})")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="drawings of calibration samples (1)")
    parser.add_argument("--windows", type=int, default=16, metavar="N", help="evaluation windows (16)")
    parser.add_argument("--window-length", type=int, default=2048, metavar="N", help="tokens of each (2048)")


def cut_text(path, prefix):
    """Writes PREFIX.calibration.txt, PREFIX.held-out.txt and PREFIX.evaluation.txt; gives their paths."""
    with open(path, encoding="utf-8-sig") as file:
        lines = file.readlines()
    total, done, parts = sum(map(len, lines)), 0, [[], [], []]
    for line in lines:
        parts[(done >= CALIBRATION_END * total) + (done >= HELD_OUT_END * total)].append(line)
        done += len(line)
    paths = [f"{prefix}.{name}.txt" for name in ("calibration", "held-out", "evaluation")]
    for part, name in zip(parts, paths):
        with open(name, "w", encoding="utf-8") as file:
            file.writelines(part)
    return paths


def write_npy(tokens, path, limit=None):
    """The samples in a file that environments without h5py can read."""
    with h5py.File(tokens) as file:
        numpy.save(path, file["tokens"][:limit])


def tokenize(options, texts, name, *rest):
    """A file that is there already stays: the same arguments give the same tokens."""
    out = os.path.join(options.out, name)
    if not os.path.exists(out):
        measure.output_of([options.shardq, "tokenize", "--model", options.model, "--text", *texts, "--out", out,
                           *map(str, rest)])
    return out


def make(options):
    """(calibration files by seed, held-out file, evaluation file) in the folder options.out."""
    cut = [cut_text(path, os.path.join(options.out, f"text-{number}")) for number, path in enumerate(options.text)]
    calibration, held_out, evaluation = zip(*cut)
    draw = ("--samples", options.samples, "--length", options.length, "--seed")
    windows = ("--windows", "--samples", options.windows, "--length", options.window_length)
    return ([tokenize(options, calibration, f"calibration-{seed}.h5", *draw, seed) for seed in range(options.seeds)],
            tokenize(options, held_out, "held-out.h5", *draw, 0), tokenize(options, evaluation[:1], "evaluation.h5", *windows))
