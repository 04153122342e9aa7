"""What the documentation tests read from the repository: messages in the sources, and blocks of code in the pages."""

import ast
import glob
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PAGES = sorted(glob.glob(f"{ROOT}/docs/*.md")) + sorted(glob.glob(f"{ROOT}/docs/commands/*.md"))
LITERAL = r'"(?:[^"\\]|\\.)*"'
CONVERSION = re.compile(r"%[-+ 0#]*(?:\*|\d+)?(?:\.(?:\*|\d+))?(?:hh|h|ll|l|z|j|t|L)?[a-zA-Z]")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


# --- messages ---------------------------------------------------------------------------------------------------------

# Functions whose texts are messages: those of base/log.h, and those in a file that hand their text on to one of them.
PRINTERS = {"": ["sq_error", "sq_warning", "sq_info", "sq_log_last_words"], "src/config/check.c": ["refuse"],
            "src/config/yaml.c": ["refuse", "snprintf"]}
# Files with a format that says nothing of its own: a library says it, or sentences of a table that need no explanation.
OTHER_TEXTS = ["src/config/yaml_document.c", "mpi/comm.c", "src/base/log.c", "io/readers.c"]


def c_sources():
    folders = ("src", "src/*", "src/tensor/kernels", "mpi", "io", "cuda", "cuda/kernels")
    return sorted({path for folder in folders for path in glob.glob(f"{ROOT}/{folder}/*.c*")})


def arguments_at(text, start):
    """The text from behind a bracket at `start` to the one that closes it."""
    depth, at, quoted = 1, start, False
    while depth:
        char = text[at]
        if quoted:
            at += char == "\\"
            quoted = char != '"'
        else:
            quoted = char == '"'
            depth += (char in "([{") - (char in ")]}")
        at += 1
    return text[start:at - 1]


def literals(arguments):
    """The string literals, adjacent ones joined; a macro among them ends a conversion, as PRIu64 does, or is a text."""
    for match in re.finditer(rf"{LITERAL}(?:\s*(?:[A-Z]\w+\s*)?{LITERAL})*(?:\s*[A-Z]\w+(?=\s*,))?", arguments):
        text = ""
        for piece in re.findall(rf"{LITERAL}|[A-Z]\w+", match.group(0)):
            if piece[0] == '"':
                text += piece[1:-1].replace('\\"', '"').replace("\\n", " ").replace("\\\\", "\\")
            else:
                text += "d" if re.search(r"%[-0-9.]*$", text) else "*"
        yield text


def plain(text):
    """A format with `*` for what is filled in."""
    return re.sub(r"\s+", " ", re.sub(r"\*+", "*", CONVERSION.sub("*", text.replace("%%", "\0")).replace("\0", "%"))).strip()


def says_something(text):
    return re.search(r"[A-Za-z]{2}", plain(text)) is not None


def c_messages():
    """(file, text) of every message; a format without words of its own stands for the texts that are put into it."""
    for path in c_sources():
        name = os.path.relpath(path, ROOT)
        text = re.sub(r"/\*.*?\*/", " ", read(path), flags=re.S)
        for match in re.finditer(rf"\b(?:{'|'.join(PRINTERS[''] + PRINTERS.get(name, []))})\(", text):
            texts = list(literals(arguments_at(text, match.end())))
            if texts and says_something(texts[0]):
                yield name, plain(texts[0])
                continue
            inside = [plain(inner) for inner in texts[1:] if " " in inner and says_something(inner)]
            yield from ((name, inner) for inner in inside)
            if texts and not inside and name not in OTHER_TEXTS and name not in PRINTERS:
                yield name, f"{texts[0]} (a format without words: list its file in tests/docs/sources.py)"


def python_text(node):
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join("*" if isinstance(part, ast.FormattedValue) else part.value for part in node.values)
    return "*"


# Functions of the Python tools whose argument is a message. What the demo's tools cannot do ends `bootstrap demo`.
PYTHON_PRINTERS = {"tools/tokenize.py": ["Failure", "error"], "tools/demo_text.py": ["fail"], "tools/fetch_smollm2.py": ["fail"]}


def python_messages():
    for name, printers in PYTHON_PRINTERS.items():
        for node in ast.walk(ast.parse(read(f"{ROOT}/{name}"))):
            is_call = isinstance(node, ast.Call) and node.args
            called = getattr(node.func, "id", getattr(node.func, "attr", "")) if is_call else ""
            if called in printers and says_something(python_text(node.args[0])):
                yield name, plain(python_text(node.args[0]))


# The same for shell scripts; say in bootstrap and tools/ is a heading.
SHELL_PRINTERS = {"bootstrap": "die", "tools/common.sh": "die", "slurm/launch.sh": "say", "slurm/check.sh": "problem"}
EXPANSION = re.compile(r"\$\(\(.*?\)\)|\$\([^()]*\)|\$\{[^{}]*\}|\$[\w*@]")


def shell_messages():
    for name, printer in SHELL_PRINTERS.items():
        text = read(f"{ROOT}/{name}")
        for found in re.findall(rf'(?m)(?:^|\s|;)(?:{printer})\s+"((?:[^"\\]|\\.)*)"', text):
            while EXPANSION.search(found):
                found = re.sub(r"\*\w*", "*", EXPANSION.sub("*", found))
            if says_something(found):
                yield name, plain(found)


def messages():
    """(file, text) of all of them."""
    return sorted({*c_messages(), *python_messages(), *shell_messages()})


# --- pages ------------------------------------------------------------------------------------------------------------

def code_lines(path):
    """(line number, text) of every line of code, indented by four or between fences."""
    fenced, before_blank = False, True
    for number, line in enumerate(read(path).split("\n"), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or (line.startswith("    ") and before_blank):
            yield number, line.strip()
            continue
        before_blank = not line.strip() or line.startswith("    ")
