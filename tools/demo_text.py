#!/usr/bin/env -S python3 -P
"""demo_text.py FOLDER: English text for the demo, from two small Debian packages in the public domain.

  cfi-en       "Copyright does not exist" by Linus Walleij, a book in 17 chapters
  jargon-text  the Jargon File, a dictionary of hackers' English

Writes FOLDER/calibration.txt and FOLDER/evaluation.txt: one paragraph per line, a blank line between two. The evaluation part is
whole chapters of the book and the last entries of the dictionary; no paragraph is in both. Needs apt-get and
dpkg-deb, not root. Exit codes: 0 done, 1 failed, 2 usage."""

import argparse
import glob
import gzip
import html.parser
import os
import subprocess
import sys
import tempfile

BOOK = "usr/share/doc/cfi-en/html/ch*web.htm"
DICTIONARY = "usr/share/doc/jargon-text/jargon.txt.gz"
HELD_OUT_CHAPTERS = {5, 9, 13}  # about a quarter of the book
HELD_OUT_SHARE = 0.15           # of the dictionary, at its end
SHORTEST = 60                   # characters; drops headings, page furniture and the table of contents


def fail(message):
    sys.exit(f"demo_text: {message}")


class ParagraphParser(html.parser.HTMLParser):
    """Text of a page, cut at block elements."""

    BLOCKS = {"p", "td", "div", "br", "li", "h1", "h2", "h3", "h4", "blockquote", "title"}

    def __init__(self):
        super().__init__()
        self.paragraphs = [""]

    def handle_starttag(self, tag, attributes):
        if tag in self.BLOCKS:
            self.paragraphs.append("")

    def handle_endtag(self, tag):
        self.handle_starttag(tag, None)

    def handle_data(self, data):
        self.paragraphs[-1] += data


def run(command, folder):
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        words = (result.stderr.strip() or "no message").splitlines()[-1]
        fail(f"{' '.join(command)} failed: {words}")


def unpack_packages(folder):
    # As root apt would download as another user, who may not write here.
    run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", "cfi-en", "jargon-text"], folder)
    packages = glob.glob(os.path.join(folder, "*.deb"))
    if len(packages) != 2:
        fail(f"apt-get download left {len(packages)} packages instead of 2")
    for package in packages:
        run(["dpkg-deb", "-x", package, "."], folder)


def tidy(paragraph):
    return " ".join(paragraph.split())


def book_chapters(folder):
    """{chapter number: paragraphs}"""
    chapters = {}
    for path in glob.glob(os.path.join(folder, BOOK)):
        parser = ParagraphParser()
        with open(path, encoding="cp1252", errors="replace") as file:
            parser.feed(file.read())
        number = int("".join(c for c in os.path.basename(path) if c.isdigit()))
        chapters[number] = [p for p in map(tidy, parser.paragraphs) if len(p) >= SHORTEST]
    if not HELD_OUT_CHAPTERS < set(chapters):
        fail(f"cfi-en has the chapters {sorted(chapters)}, expected more than {sorted(HELD_OUT_CHAPTERS)}")
    return chapters


def dictionary_paragraphs(folder):
    """Entries start with ":name:"; everything else that is short is furniture."""
    with gzip.open(os.path.join(folder, DICTIONARY), "rt", encoding="utf-8", errors="replace") as file:
        paragraphs = [tidy(p) for p in file.read().split("\n\n")]
    return [p for p in paragraphs if p.startswith(":") or (len(p) >= SHORTEST and p[0].isalnum())]


def split_text(folder):
    """(calibration, evaluation), lists of paragraphs."""
    chapters, dictionary = book_chapters(folder), dictionary_paragraphs(folder)
    cut = round(len(dictionary) * (1 - HELD_OUT_SHARE))
    calibration = [p for n in sorted(chapters) if n not in HELD_OUT_CHAPTERS for p in chapters[n]] + dictionary[:cut]
    seen = set(calibration)
    evaluation = [p for n in sorted(HELD_OUT_CHAPTERS) for p in chapters[n]] + dictionary[cut:]
    return calibration, [p for p in evaluation if p not in seen]


def write_text(path, paragraphs):
    with open(path + ".tmp", "w", encoding="utf-8", newline="\n") as file:
        file.write("\n\n".join(paragraphs) + "\n")
    os.replace(path + ".tmp", path)
    print(f"{path}: {len(paragraphs)} paragraphs, {os.path.getsize(path)} bytes")


def main():
    parser = argparse.ArgumentParser(prog="demo_text", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", metavar="FOLDER")
    folder = parser.parse_args().folder
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory() as temporary:
            unpack_packages(temporary)
            calibration, evaluation = split_text(temporary)
        write_text(os.path.join(folder, "calibration.txt"), calibration)
        write_text(os.path.join(folder, "evaluation.txt"), evaluation)
    except OSError as error:
        fail(error)


if __name__ == "__main__":
    main()
