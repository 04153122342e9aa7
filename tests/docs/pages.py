#!/usr/bin/env python3
"""The pages and the tables say the same: commands, options, exit codes, environment, files, families, faults, folders, links. SHARDQ:
the program."""

import ast
import glob
import os
import re
import subprocess
import sys

import sources

ROOT = sources.ROOT
README = sources.read(f"{ROOT}/README.md")
ALL = {path: sources.read(path) for path in [f"{ROOT}/README.md", *sources.PAGES]}
# Options of other programs that the pages name.
FOREIGN = {"--bind-to", "--map-by", "--allow-run-as-root", "--oversubscribe", "--nodes", "--ntasks-per-node", "--cpus-per-task",
           "--requeue", "--signal", "--mpi", "--parsable", "--time", "--dependency", "--gpus-per-node", "--kill-on-bad-exit", "--build", "--preset", "--test-dir", "--install", "--prefix", "--no-deps", "--x"}
failures = []


def check(condition, message):
    if not condition:
        failures.append(message)


def shardq(*words):
    return subprocess.run([os.environ["SHARDQ"], *words], capture_output=True, text=True, check=True).stdout


def listed(text, heading):
    """Names in the first column of the list under a heading."""
    return re.findall(r"^  (\S+) ", text[text.index(heading):].split("\n\n")[0], flags=re.M)


def all_c():
    headers = sorted(glob.glob(f"{ROOT}/src/**/*.h", recursive=True)) + sorted(glob.glob(f"{ROOT}/io/*.h"))
    return "\n".join(sources.read(path) for path in [*sources.c_sources(), *headers])


def check_commands():
    topics = shardq("help")
    commands = listed(topics, "Commands\n")
    check(len(commands) >= 10, f"only {len(commands)} commands: the check itself is broken")
    for name in commands:
        check(f"| `{name}` |" in README, f"README.md: no row for the command {name}")
        check(os.path.exists(f"{ROOT}/docs/commands/{name}.md"), f"no docs/commands/{name}.md")
    pages = {os.path.basename(path)[:-3] for path in glob.glob(f"{ROOT}/docs/*.md")}
    check(pages == set(listed(topics, "Pages\n")), f"pages of docs/ and of shardq help differ: {pages}")
    for name in pages:
        check(f"docs/{name}.md" in README, f"README.md: no link to docs/{name}.md")
    return commands


def check_options(commands):
    """What the pages call an option is one; the tables themselves make help and manual pages."""
    known = set(FOREIGN)
    for name in commands:
        known |= set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", shardq(name, "--help")))
    for path, text in ALL.items():
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) - known - {"--version"}:
            failures.append(f"{os.path.relpath(path, ROOT)}: there is no option {option}")


def check_tokenize():
    """tools/tokenize.py reads the options that the program describes."""
    calls = [node for node in ast.walk(ast.parse(sources.read(f"{ROOT}/tools/tokenize.py")))
             if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument"]
    read = {call.args[0].value for call in calls}
    described = set(re.findall(r"^  (--\S+)", shardq("tokenize", "--help"), flags=re.M)) - {"--help"}
    check(read == described, f"options of tokenize: only one of script and table has {sorted(read ^ described)}")


def check_exit_codes():
    codes = re.findall(r"^\s+X\((\d+), \"", sources.read(f"{ROOT}/src/base/status.h"), flags=re.M)
    used = set(re.findall(r"(?m)^\s+X\(SQ_\w+, (\d+)\)|^#define SQ_EXIT_\w+ (\d+)", all_c()))
    used = {code or other for code, other in used}
    check(used and used == set(codes), f"exit codes {sorted(used)} are used, {codes} described")
    sentence = re.search(r"Exit codes: (.*?)\.\s", README, flags=re.S)
    check(sentence and re.findall(r"\b\d+\b", sentence.group(1)) == codes, "README.md: 'Exit codes: ...' does not list all")


def check_environment():
    page = sources.read(f"{ROOT}/docs/commands/shardq.md")
    names = set(re.findall(r'getenv\("(\w+)"\)', all_c()))
    check(len(names) >= 3, "no getenv was found: the check itself is broken")
    for name in names:
        check(f"- `{name}`:" in page, f"docs/commands/shardq.md: no variable {name}")
    page, scripts = sources.read(f"{ROOT}/docs/clusters.md"), glob.glob(f"{ROOT}/slurm/*")
    names = {name for path in scripts for name in re.findall(r"\$\{(SHARDQ\w*|CHECK_\w+)", sources.read(path))}
    check(names, "no variable was found in slurm/: the check itself is broken")
    for name in names:
        check(f"`{name}`" in page, f"docs/clusters.md: no variable {name}")


def check_files():
    """Names that the program gives to files: a suffix put behind another name, or a name of its own."""
    page = sources.read(f"{ROOT}/docs/formats.md")
    suffixes = set(re.findall(r'"%(?:\.\*)?s(\.[a-z0-9.]+)"', all_c())) - {".experts"}  # a module of a model
    names = set(re.findall(r'"(\.?[\w-]+\.(?:json|safetensors)|\.shardq-\w+)"', all_c()))
    check({".lock", ".state", ".tmp", ".store.h5"} <= suffixes, f"suffixes {suffixes}: the check itself is broken")
    for name in suffixes | names:
        check(name in page, f"docs/formats.md: nothing is said of {name}")


def check_families():
    names = set(re.findall(r'\.name = "(\w+For\w+)"', all_c()))
    check(len(names) > 20, f"only {len(names)} families: the check itself is broken")
    for name in names:
        check(f"`{name}`" in README, f"README.md: no family {name}")


def check_faults():
    """Each row of the README's table of faults names scripts that are tests, and what is in them; and no fault is left out."""
    table = re.search(r"### Faults\n.*?(\| fault .*?)\n\n", README, flags=re.S).group(1).split("\n")[2:]
    check(len(table) >= 15, f"only {len(table)} faults: the check itself is broken")
    tests, named = sources.read(f"{ROOT}/tests/CMakeLists.txt"), set()
    for row in table:
        fault, cell = row.split(" | ")[0].strip("| "), row.strip("| ").split(" | ")[-1]
        check(cell.startswith("`"), f"README.md: no test for: {fault}")
        for script, parts in re.findall(r"`(\w+\.sh)`((?: \w+)*)", cell):
            folder = "slurm" if script == "jobs.sh" else "whole"
            is_run = f"shardq_whole_test({script[:-3]})" in tests or f"{folder}/{script})" in tests
            check(is_run, f"README.md: {script} is no test: {fault}")
            text = sources.read(f"{ROOT}/tests/{folder}/{script}")
            for part in parts.split():
                check(re.search(rf"^{part}\(\)|^submit_held {part}\b", text, flags=re.M), f"README.md: no {part} in {script}: {fault}")
                named.add(part)
    faults = re.search(r"^faults=\((.*?)\)", sources.read(f"{ROOT}/tests/whole/faults.sh"), flags=re.M | re.S).group(1).split()
    for fault in set(faults) - named - {"file_hints"}:  # which are no fault
        check(False, f"README.md: no row for {fault} of faults.sh")


def check_map():
    """The README's map names what is there, and every folder at the top."""
    rows = re.search(r"## Map\n\n(.*?)\n\n", README, flags=re.S).group(1)
    named = re.findall(r"^    (\S+)", rows, flags=re.M)
    for name in named:
        check(os.path.exists(f"{ROOT}/{name}"), f"README.md: the map has {name}, which is not there")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    for folder in {path.split("/")[0] for path in tracked if "/" in path and not path.startswith(".")}:
        check(any(name.rstrip("/").split("/")[0] == folder for name in named), f"README.md: the map lacks {folder}/")


def check_links():
    for path, text in ALL.items():
        for target in re.findall(r"\]\(([^)#]+?)(?:#[\w-]+)?\)", text):
            if not target.startswith("http"):
                there = os.path.exists(os.path.join(os.path.dirname(path), target))
                check(there, f"{os.path.relpath(path, ROOT)}: a link to {target}, which is not there")


def main():
    commands = check_commands()
    check_options(commands)
    check_tokenize()
    check_exit_codes()
    check_environment()
    check_files()
    check_families()
    check_faults()
    check_map()
    check_links()
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
