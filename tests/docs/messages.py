#!/usr/bin/env python3
"""Every message of the program has a place in docs/troubleshooting.md, and every one there is still in the program. A line of
code on the page is a message, with * for what is filled in; a * there also stands for more, so that one line can hold for
several messages, unless the line has fewer than two words of its own."""

import fnmatch
import re
import sys

import sources

PAGE = f"{sources.ROOT}/docs/troubleshooting.md"


def fits(message, pattern):
    if len(re.findall(r"[A-Za-z]{2,}", pattern)) < 2:
        return message == pattern
    return fnmatch.fnmatchcase(message, re.sub(r"([\[\]?])", r"[\1]", pattern))


def main():
    patterns = {text: number for number, text in sources.code_lines(PAGE)}
    messages = sources.messages()
    for kind, least in ((".c", 250), (".py", 20), (".sh", 10)):
        count = sum(file.endswith(kind) for file, _ in messages)
        if count < least:
            sys.exit(f"only {count} messages were found in files {kind}: the search itself is broken")
    missing = [f"{file}: no place in troubleshooting.md: {message}" for file, message in messages
               if not any(fits(message, pattern) for pattern in patterns)]
    stale = [f"troubleshooting.md:{number}: no such message: {pattern}" for pattern, number in patterns.items()
             if not any(fits(message, pattern) for _, message in messages)]
    sys.exit("\n".join(missing + stale) or 0)


if __name__ == "__main__":
    main()
