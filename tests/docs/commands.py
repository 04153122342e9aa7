#!/usr/bin/env python3
"""Every command line of shardq in README.md, docs/ and configs/ does what it says. A line of code that begins with shardq or
mpirun is run, each page's lines in turn, in a folder with small stand-ins of what they name. One with variables, with srun, or with
a prompt (it stands above what it printed elsewhere) is only given to the option parser, as are the lines of configs/.

SHARDQ, PARSE_LINE (parse_line.c), MAKE_TOKENS: programs. Exit code 77: Python modules are missing, and all but the lines of `shardq
tokenize` did what they say, with other token files in place of theirs."""

import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

import sources

SHARDQ, PARSE_LINE, MAKE_TOKENS = (os.environ[name] for name in ("SHARDQ", "PARSE_LINE", "MAKE_TOKENS"))
MODEL = f"{sources.ROOT}/tests/golden/llama"
SKIPPED = 77  # ctest's SKIP_RETURN_CODE for this test
# What makes a line small enough, and gives placeholders a name that is there.
SMALL = [("build/shardq", "shardq"), ("FILE...", "text.txt heldout.txt"), ("FILE", "heldout.txt"), ("128 --length 2048", "4 --length 32"),
         ("--length 2048", "--length 32"), ("32 --length 512", "4 --length 32"), ("mpirun -n 4", "mpirun -n 2"), ("--threads 8", "--threads 1")]


def lines_of(path):
    """(number, line) of the command lines of a page."""
    if path.endswith(".yaml"):
        return [(number, line[2:]) for number, line in enumerate(sources.read(path).split("\n"), 1) if line.startswith("# shardq ")]
    if path.endswith("troubleshooting.md"):  # its code is messages
        return []
    lines = [(number, line.split(" # ")[0]) for number, line in sources.code_lines(path)]
    return [(number, line) for number, line in lines if "shardq" in line and re.match(r"(\$ )?(mpirun |srun |build/)|(\$ )?shardq( |$)|source <", line)]


def make_tokens(folder, name, seed):
    subprocess.run([MAKE_TOKENS, name, "4", "32", "128", str(seed)], cwd=folder, check=True)


def prepare(folder):
    """What the pages take for given: a model, text, tokens, and a quantized form with its store."""
    for name in ("DIR", "MODEL"):
        os.symlink(MODEL, f"{folder}/{name}")
    shutil.copytree(f"{sources.ROOT}/configs", f"{folder}/configs")  # a page writes the reference anew
    os.makedirs(f"{folder}/.cache/text")
    for seed, name in enumerate(("text.txt", "heldout.txt", ".cache/text/calibration.txt", "linux.txt", "libc.txt")):
        with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
            file.writelines(f"{(i * 7919 + seed) % 1009} lines of text, none like another.\n" for i in range(200))
    for seed, name in enumerate(("calib.h5", "eval.h5")):
        make_tokens(folder, name, seed)
    subprocess.run([SHARDQ, "quantize", "--model", "DIR", "--tokens", "calib.h5", "--out", "DIR-4bit"], cwd=folder, check=True,
                   stderr=subprocess.DEVNULL)


def clear_output(folder, line):
    """Away with what the line makes, if it is there: a page may make the same in two ways."""
    for name in re.findall(r"(?:--out|>) (\S+)", line):
        shutil.rmtree(f"{folder}/{name}", ignore_errors=True)
        for path in (f"{folder}/{name}", f"{folder}/{name}.store.h5"):
            if os.path.exists(path):
                os.remove(path)


def is_only_parsed(path, line):
    return line.startswith(("srun", "$ ")) or re.search(r"\$[A-Z]", line) is not None or path.endswith(".yaml")


def run(folder, path, line):
    """What went wrong, or nothing."""
    if is_only_parsed(path, line):
        words = shlex.split(line[line.index("shardq") + len("shardq"):])
        done = subprocess.run([PARSE_LINE, *words], cwd=folder, capture_output=True, text=True)
    else:
        for before, after in SMALL:
            line = line.replace(before, after)
        if "| man" in line and not shutil.which("man"):
            line = line[:line.index("|")]
        done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return "" if done.returncode == 0 else f"exit code {done.returncode}: {line}\n{done.stdout[-500:]}{done.stderr[-1500:]}"


def can_tokenize(folder):
    return subprocess.run([SHARDQ, "tokenize", "--model", "DIR", "--text", "text.txt", "--samples", "1", "--length", "8", "--out", "try.h5"],
                          cwd=folder, capture_output=True).returncode == 0


def main():
    os.environ["PATH"] = os.path.dirname(SHARDQ) + ":" + os.environ["PATH"]
    failures, count, skipped = [], 0, 0
    with tempfile.TemporaryDirectory() as top:
        prepared = f"{top}/prepared"
        os.mkdir(prepared)
        prepare(prepared)
        tokenizes = can_tokenize(prepared)
        for path in [f"{sources.ROOT}/README.md", *sources.PAGES, *sorted(glob.glob(f"{sources.ROOT}/configs/*.yaml"))]:
            lines = lines_of(path)
            folder = f"{top}/{count}-{os.path.basename(path)}"
            shutil.copytree(prepared, folder, symlinks=True)
            for number, line in lines:
                count += 1
                if "shardq tokenize" in line and not tokenizes:
                    skipped += 1
                    if out := re.search(r"--out (\S+)", line):  # the lines below take it for given
                        make_tokens(folder, out.group(1), count)
                    continue
                if "--resume" not in line and not is_only_parsed(path, line):
                    clear_output(folder, line)
                failure = run(folder, path, line)
                if failure:
                    failures.append(f"{os.path.relpath(path, sources.ROOT)}:{number}: {failure}")
    print(f"{count} command lines, {skipped} not run for want of Python modules")
    if count < 30:
        failures.append("too few command lines: the search itself is broken")
    sys.exit("\n".join(failures) or (SKIPPED if skipped else 0))


if __name__ == "__main__":
    main()
