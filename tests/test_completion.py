#!/usr/bin/env python3
"""What Tab makes of a line, in bash and (where it is installed) in zsh: each on a terminal of its own that is typed into.
SHARDQ: the program."""

import os
import pty
import re
import select
import shutil
import sys
import tempfile
import time

# What is typed, and what the line is after Tab. Where several words are left, what they have in common is filled in.
LINES = [
    ("shardq quan", "shardq quantize "),
    ("shardq --v", "shardq --version "),
    ("shardq co", "shardq co"),
    ("shardq quantize --bi", "shardq quantize --bits"),
    ("shardq quantize --no-ra", "shardq quantize --no-ragged "),
    ("shardq assemble --format com", "shardq assemble --format compressed-tensors "),
    ("shardq assemble --format=com", "shardq assemble --format=compressed-tensors "),
    ("shardq eval --model m", "shardq eval --model models/"),
    ("shardq quantize --config tw", "shardq quantize --config two\\ words.yaml "),
    ("shardq inspect to", "shardq inspect tokens.h5 "),
    ("shardq help arch", "shardq help architecture "),
    ("shardq completion z", "shardq completion zsh "),
    ("shardq eval --group", "shardq eval --group"),
    ("shardq tokenize --bos al", "shardq tokenize --bos always "),
    ("shardq tokenize --wi", "shardq tokenize --windows "),
]

SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"],
             "PS1=; bind 'set bell-style none'; bind 'set enable-bracketed-paste off'; source <(shardq completion bash)\n"
             "bind -x '\"\\C-g\": printf \"<%s>\" \"$READLINE_LINE\"; READLINE_LINE='\n"),
    "zsh": (["zsh", "-f", "-i"],
            "PS1=; unsetopt beep; autoload -U compinit; compinit -u -d ./dump; source <(shardq completion zsh)\n"
            "show() { print -rn -- \"<$BUFFER>\"; BUFFER= }; zle -N show; bindkey '^G' show\n"),
}


class Terminal:
    def __init__(self, command, folder):
        self.child, self.file = pty.fork()
        if self.child == 0:
            os.chdir(folder)
            os.environ["TERM"] = "dumb"
            os.execvp(command[0], command)

    def type(self, text):
        os.write(self.file, text.encode())

    def read_until(self, pattern, seconds=20):
        """What was printed up to a match, which is returned; ends the test after some seconds."""
        seen, end = "", time.monotonic() + seconds
        while not (match := re.search(pattern, seen)):
            if not select.select([self.file], [], [], max(0, end - time.monotonic()))[0]:
                sys.exit(f"nothing like {pattern!r} in {seconds} s, but {seen!r}")
            seen += os.read(self.file, 4096).decode(errors="replace")
        return match

    def close(self):
        os.close(self.file)
        os.waitpid(self.child, 0)


def main():
    os.environ["PATH"] = os.path.dirname(os.environ["SHARDQ"]) + ":" + os.environ["PATH"]
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(f"{folder}/models")
        for name in ("tokens.h5", "two words.yaml"):
            open(f"{folder}/{name}", "w").close()
        for name, (command, setup) in SHELLS.items():
            if not shutil.which(name):
                print(f"{name} is not installed: not tried")
                continue
            terminal = Terminal(command, folder)
            terminal.type(setup + "echo re''ady\n")
            terminal.read_until("ready")
            for typed, expected in LINES:
                terminal.type(typed + "\t")
                time.sleep(0.1)  # zsh takes what is there already for pasted
                terminal.type("\a")
                line = terminal.read_until(r"<(shardq[^<>]*)>").group(1)
                plain = line.replace("=", " ", 1) if name == "zsh" and "=" not in typed else line  # --bits= for --bits
                if plain.rstrip() != expected.rstrip():
                    failures.append(f"{name}: {typed!r} became {line!r} instead of {expected!r}")
            terminal.close()
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
