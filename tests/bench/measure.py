#!/usr/bin/env python3
"""Runs a command and measures it: wall seconds, CPU seconds (user + system) and peak resident memory.

As a module: run(command, log). As a program: measure.py FOLDER -- COMMAND... runs the command and writes its figures to
FOLDER/PID.json; under mpirun every rank so leaves a file of its own."""

import contextlib
import json
import os
import subprocess
import sys
import time


class Failed(Exception):
    """A command that ended with an error, in words for the user."""


def run(command, log=None, env=None):
    """The figures of the command and of all its descendants, as the kernel counts them when they end; the peak is that of
    the largest process. The command's output goes to the end of the file `log`, or nowhere special."""
    environment = {**os.environ, **(env or {})}
    with open(log, "ab") if log else contextlib.nullcontext() as output:
        began = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=subprocess.STDOUT if log else None)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        said = f"; its output is in {log}" if log else ""
        raise Failed(f"exit code {process.returncode} from: {' '.join(map(str, command))}{said}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024}


def output_of(command, log=None, env=None):
    """The standard output of a command that need not be measured; its messages go to the end of `log`."""
    environment = {**os.environ, **(env or {})}
    with open(log, "ab") if log else contextlib.nullcontext() as messages:
        result = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages,
                                text=True)
    if result.returncode:
        said = f"; its messages are in {log}" if log else ""
        raise Failed(f"exit code {result.returncode} from: {' '.join(map(str, command))}{said}")
    return result.stdout


def main():
    if len(sys.argv) < 4 or sys.argv[2] != "--":
        sys.exit("usage: measure.py FOLDER -- COMMAND...")
    try:
        figures = run(sys.argv[3:])
    except Failed as failure:
        sys.exit(f"measure: {failure}")
    with open(os.path.join(sys.argv[1], f"{os.getpid()}.json"), "w", encoding="utf-8") as file:
        json.dump(figures, file)


if __name__ == "__main__":
    main()
