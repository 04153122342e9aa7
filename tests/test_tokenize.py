#!/usr/bin/env python3
"""tools/tokenize.py from outside: what it writes, what it refuses. Uses the character tokenizer of tests/golden/llama."""

import hashlib
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import unittest

SKIPPED = 77  # ctest's SKIP_RETURN_CODE for this test
if any(importlib.util.find_spec(name) is None for name in ("h5py", "numpy", "tokenizers", "xxhash")):
    print("skipped: h5py, numpy, tokenizers or xxhash is missing; ./bootstrap build installs them into .venv")
    sys.exit(SKIPPED)

import h5py
import numpy

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.path.join(HERE, "..", "tools", "tokenize.py")
MODEL = os.path.join(HERE, "golden", "llama")
FIRST_CHARACTER = 4  # of the vocabulary: <unk> <s> </s> \n, then chr(32), chr(33), ...


def ids_of(text):
    return [3 if c == "\n" else ord(c) - 32 + FIRST_CHARACTER for c in text]


class TokenizeTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.a = self.write("a.txt", "".join(chr(32 + i * i % 90) for i in range(1000)))
        self.b = self.write("b.txt", "The quick brown fox jumps over the lazy dog.\n" * 40)
        self.out = self.path("out.h5")

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def write(self, name, text):
        data = text if isinstance(text, bytes) else text.encode()
        with open(self.path(name), "wb") as file:
            file.write(data)
        return self.path(name)

    def start(self, *arguments, model=MODEL, out=None):
        command = [sys.executable, PROGRAM, "--model", model, *map(str, arguments), "--out", out or self.out]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def tokens(self, *arguments, **options):
        done = self.start(*arguments, **options)
        self.assertEqual(done.returncode, 0, done.stderr)
        with h5py.File(options.get("out") or self.out) as file:
            return file["tokens"][:], dict(file["tokens"].attrs)

    def refused(self, code, words, *arguments, **options):
        done = self.start(*arguments, **options)
        self.assertEqual(done.returncode, code, done.stderr)
        self.assertIn(words, done.stderr)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("shardq tokenize: "), done.stderr)
        self.assertFalse(os.path.exists(self.out + ".tmp"))

    # --- what it writes

    def test_windows_are_the_text_in_order(self):
        ids, attributes = self.tokens("--text", self.a, self.b, "--windows", "--length", 64)
        with open(self.a, encoding="utf-8") as a, open(self.b, encoding="utf-8") as b:
            texts = [ids_of(a.read()), ids_of(b.read())]
        expected = [text[i:i + 64] for text in texts for i in range(0, len(text) - 63, 64)]
        numpy.testing.assert_array_equal(ids, expected)
        self.assertEqual(ids.dtype, numpy.dtype("<i4"))
        self.assertEqual(attributes["method"], "windows")

    def test_windows_keep_the_first_samples(self):
        every, _ = self.tokens("--text", self.a, self.b, "--windows", "--length", 64)
        first, _ = self.tokens("--text", self.a, self.b, "--windows", "--length", 64, "--samples", 20, "--force")
        numpy.testing.assert_array_equal(first, every[:20])

    def test_drawn_samples_are_pieces_of_the_text_without_overlap(self):
        letters = random.Random(1)
        text = "".join(chr(letters.randrange(32, 127)) for _ in range(2000))
        ids, _ = self.tokens("--text", self.write("c.txt", text), "--samples", 31, "--length", 64, "--seed", 5)
        whole, taken = "".join(map(chr, ids_of(text))), []
        for row in ids:
            piece = "".join(map(chr, row))
            self.assertEqual(whole.count(piece), 1)
            taken.append(whole.index(piece))
        self.assertNotEqual(taken, sorted(taken))  # shuffled
        self.assertTrue((numpy.diff(sorted(taken)) >= 64).all())

    def test_weights_share_the_samples(self):
        _, attributes = self.tokens("--text", self.a, self.b, "--weight", 1, 3, "--samples", 10, "--length", 32)
        sources = json.loads(attributes["sources"])
        # 2.5 and 7.5: one of the two gets the leftover sample
        self.assertIn([source["samples"] for source in sources], ([2, 8], [3, 7]))
        with open(self.a, "rb") as file:
            self.assertEqual(sources[0]["sha256"], hashlib.sha256(file.read()).hexdigest())

    def test_the_order_of_files_does_not_matter(self):
        one, _ = self.tokens("--text", self.a, self.b, "--weight", 1, 2, "--samples", 9, "--length", 32)
        two, _ = self.tokens("--text", self.b, self.a, "--weight", 2, 1, "--samples", 9, "--length", 32, "--force")
        numpy.testing.assert_array_equal(one, two)

    def test_the_seed_decides_the_bytes(self):
        same = [self.path("1.h5"), self.path("2.h5")]
        for out in same:
            self.tokens("--text", self.a, "--samples", 8, "--length", 16, "--seed", 3, out=out)
        with open(same[0], "rb") as one, open(same[1], "rb") as two:
            self.assertEqual(one.read(), two.read())
        other, _ = self.tokens("--text", self.a, "--samples", 8, "--length", 16, "--seed", 4)
        with h5py.File(same[0]) as file:
            self.assertFalse((file["tokens"][:] == other).all())

    def test_the_drawing_is_the_one_of_this_version(self):
        """Frozen: a change of method must raise METHOD_VERSION."""
        ids, attributes = self.tokens("--text", self.a, "--samples", 4, "--length", 8, "--seed", 1)
        self.assertEqual(attributes["method_version"], 1)
        self.assertEqual(hashlib.sha256(ids.tobytes()).hexdigest()[:16], "2b38022675412b07")

    def test_jsonl_records_are_joined_by_a_blank_line(self):
        lines = [json.dumps({"body": "first record"}), "", json.dumps({"body": "second"})]
        ids, _ = self.tokens("--text", self.write("x.jsonl", "\n".join(lines)), "--field", "body", "--windows",
                             "--length", 20)
        numpy.testing.assert_array_equal(ids, [ids_of("first record\n\nsecond")])

    def test_bos_goes_in_front(self):
        plain, _ = self.tokens("--text", self.a, "--windows", "--length", 63)
        ids, attributes = self.tokens("--text", self.a, "--windows", "--length", 64, "--bos", "always", "--force")
        self.assertEqual(attributes["bos"], 1)
        numpy.testing.assert_array_equal(ids[:, 0], 1)
        numpy.testing.assert_array_equal(ids[:, 1:], plain)

    def test_auto_bos_follows_the_tokenizer(self):
        with open(os.path.join(MODEL, "tokenizer.json"), encoding="utf-8") as file:
            tokenizer = json.load(file)
        tokenizer["post_processor"] = {
            "type": "TemplateProcessing", "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}]}
        tokenizer["truncation"] = {"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0}
        self.write("tokenizer.json", json.dumps(tokenizer))
        ids, _ = self.tokens("--text", self.a, "--samples", 4, "--length", 32, model=self.folder.name)
        numpy.testing.assert_array_equal(ids[:, 0], 1)
        ids, _ = self.tokens("--text", self.a, "--windows", "--length", 32, "--force", model=self.folder.name)
        self.assertFalse((ids == 1).any())
        self.assertEqual(len(ids), 1000 // 32)  # the file's truncation is not applied

    def test_the_summary(self):
        done = self.start("--text", self.a, self.b, "--samples", 4, "--length", 32, "--json")
        summary = json.loads(done.stdout)
        self.assertEqual(summary["samples"], 4)
        self.assertEqual(summary["tokenizer_vocabulary"], 99)
        self.assertEqual(summary["tokenizer_xxh3"], "5dad45355b8fbb95")  # as tests/whole/results.sh has it
        self.assertTrue(0 < summary["vocabulary_seen"] <= 99)
        done = self.start("--text", self.a, "--samples", 4, "--length", 32, "--force")
        self.assertIn("vocabulary seen", done.stdout)
        self.assertRegex(done.stdout, r"[0-9]+ tokens make half of the sample")

    def test_the_lengths_of_texts(self):
        """Paragraphs of 1, 2 to 3, 4 to 7 characters, and so on; of .jsonl its records."""
        words = "a\n\nbc\n\nd e\n\n\n\n" + "x" * 70
        _, attributes = self.tokens("--text", self.write("p.txt", words), "--windows", "--length", 8)
        self.assertEqual(json.loads(attributes["sources"])[0]["record_lengths"], [1, 2, 0, 0, 0, 0, 1])
        lines = [json.dumps({"text": "one\n\ntext"}), json.dumps({"text": "four"})]
        _, attributes = self.tokens("--text", self.write("r.jsonl", "\n".join(lines)), "--windows", "--length", 8, "--force")
        self.assertEqual(json.loads(attributes["sources"])[0]["record_lengths"], [0, 0, 1, 1])

    # --- what it refuses

    def test_usage(self):
        self.refused(2, "--text", "--samples", 4)
        self.refused(2, "2 values for 1 files", "--text", self.a, "--weight", 1, 2)
        for weight in ("0", "-1", "nan", "inf", "x"):
            self.refused(2, "weight", "--text", self.a, f"--weight={weight}")
        self.refused(2, "--weight", "--text", self.a, "--weight", 1, "--windows")
        self.refused(2, "--samples", "--text", self.a, "--samples", 0)
        self.refused(2, "--length", "--text", self.a, "--length", "ten")
        self.refused(2, "--seed", "--text", self.a, "--seed", -1)

    def test_missing_files(self):
        self.refused(1, "gone.txt", "--text", self.path("gone.txt"))
        self.refused(1, "tokenizer.json", "--text", self.a, model=self.folder.name)
        absent = self.path("absent")
        self.refused(1, f"cannot write {absent}/out.h5: {absent} is not a folder that is there", "--text", self.a, "--samples",
                     1, "--length", 8, out=self.path("absent/out.h5"))

    def test_bad_content(self):
        self.refused(1, "not UTF-8", "--text", self.write("bad.txt", b"abc\xff\xfe"))
        self.refused(1, "line 2 is not JSON", "--text", self.write("bad.jsonl", '{"text": "a"}\n{'))
        self.refused(1, "line 1 is not JSON", "--text", self.write("deep.jsonl", "[" * 100000))
        self.refused(1, "line 1 has no text", "--text", self.write("other.jsonl", '{"body": "a"}\n'))
        self.refused(1, "same content", "--text", self.a, self.a)
        self.write("tokenizer.json", "{}")
        self.refused(1, "tokenizer.json", "--text", self.a, model=self.folder.name)

    def test_too_little_text(self):
        self.refused(1, "has 1000 tokens", "--text", self.a, "--samples", 11, "--length", 100)
        self.tokens("--text", self.a, "--samples", 11, "--length", 100, "--overlap")
        self.refused(1, "too little text", "--text", self.a, "--windows", "--length", 1001, "--force")
        self.refused(1, "too little text", "--text", self.a, "--windows", "--length", 100, "--samples", 11, "--force")
        self.refused(1, "has 0 tokens", "--text", self.write("empty.txt", ""), "--force")

    def test_an_existing_file_is_kept(self):
        self.write("out.h5", "precious")
        self.refused(1, "--force", "--text", self.a, "--samples", 1, "--length", 8)
        with open(self.out, encoding="utf-8") as file:
            self.assertEqual(file.read(), "precious")

    def test_a_file_that_cannot_be_written(self):
        os.mkdir(self.out + ".tmp")
        done = self.start("--text", self.a, "--samples", 1, "--length", 8)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertEqual(done.stderr, f"shardq tokenize: cannot write {self.out}: Is a directory\n")

    def test_what_is_read_is_not_written(self):
        model = os.path.dirname(self.write("tokenizer.json", "{}"))
        link, temporary = self.path("link.h5"), self.write("c.h5.tmp", "c" * 100)
        os.symlink(self.b, link)
        for out, path in ((self.b, self.b), (link, self.b), (self.path("tokenizer.json"), self.path("tokenizer.json")),
                          (self.path("c.h5"), temporary)):
            with open(path, encoding="utf-8") as file:
                before = file.read()
            done = self.start("--text", self.a, self.b, temporary, "--samples", 3, "--length", 8, "--force", out=out, model=model)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn(f"--out {out} would overwrite {path}, which is read", done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
            with open(path, encoding="utf-8") as file:
                self.assertEqual(file.read(), before)

    def test_only_a_regular_file_is_replaced(self):
        os.symlink(self.b, self.out)
        self.refused(1, "is no regular file", "--text", self.a, "--samples", 1, "--length", 8, "--force")
        self.assertTrue(os.path.islink(self.out))
        os.remove(self.out)
        os.mkfifo(self.out)
        self.refused(1, "is no regular file", "--text", self.a, "--samples", 1, "--length", 8, "--force")
        self.assertTrue(os.path.exists(self.out) and not os.path.isfile(self.out))


if __name__ == "__main__":
    unittest.main()
