#!/usr/bin/env python3
"""shardq tokenize: turns text into the token file that quantize and eval read.

  tokenize.py --model DIR --text FILE... [--weight W...] [--samples 128] [--length 2048] [--seed 0] --out calib.h5
  tokenize.py --model DIR --text FILE... --windows [--samples N] [--length 2048] --out eval.h5

Text. FILE is .jsonl (one JSON object per line, its --field), .parquet (its column --field; needs pyarrow) or, by any other
name, plain UTF-8. The records of a file are joined by a blank line, and the whole is tokenized once, without special
tokens.

Drawing (calibration). Each file gets its share of the samples by --weight (equal shares by default; leftover samples
go by largest remainder). In each file that many windows of --length tokens are drawn at random and without overlap
(--overlap allows it, for short texts); last, all samples are shuffled. The generators are numpy's PCG64, seeded by --seed
and the SHA-256 of the file's content: the result does not depend on the order or the names of the files.

--windows (evaluation). Each file is cut into consecutive windows from its first token on, in the order given; a rest
shorter than a window is dropped; --samples keeps the first N. This is how perplexity is usually reported.

Beginning of sequence. --bos auto (the default) puts the special token in front of every drawn sample if the model's
own tokenizer puts one in front of a text, and never into windows; always and never do as they say. The sample keeps its length.

Output. HDF5, dataset /tokens int32 [samples, length]; its attributes say where it came from. It is written to NAME.tmp and
renamed. The same arguments, text and library versions give the same bytes. Exit codes: 0 done, 1 failed, 2 usage."""

import argparse
import hashlib
import json
import math
import os
import sys

# This file is called tokenize.py, as the standard library's module that numpy imports: its folder may not come first.
# (The other scripts of this folder are started with python3 -P for the same reason.)
sys.path[:] = [path for path in sys.path if os.path.realpath(path or ".") != os.path.dirname(os.path.realpath(__file__))]

PROGRAM = "shardq tokenize"
METHOD_VERSION = 1  # raised when the same input would give other tokens


class Failure(Exception):
    """What went wrong, in one line, for the user."""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{PROGRAM}: {message} (--help lists the options)\n")


def positive_int(text):
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def seed_int(text):
    value = int(text)
    if not 0 <= value < 2**64:
        raise ValueError
    return value


def weight_float(text):
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError
    return value


positive_int.__name__ = "positive integer"
seed_int.__name__ = "seed (0 to 2^64 - 1)"
weight_float.__name__ = "weight (a positive number)"


def parse_arguments(argv):
    parser = Parser(prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="DIR", help="folder with the model's tokenizer.json")
    parser.add_argument("--text", required=True, nargs="+", metavar="FILE", help=".txt, .jsonl or .parquet")
    parser.add_argument("--weight", nargs="+", type=weight_float, metavar="W", help="share of each file (default: equal)")
    parser.add_argument("--samples", type=positive_int, metavar="N", help="default: 128; with --windows: all there are")
    parser.add_argument("--length", type=positive_int, default=2048, metavar="N", help="tokens per sample (2048)")
    parser.add_argument("--seed", type=seed_int, default=0, metavar="N", help="seed of the drawing (0)")
    parser.add_argument("--windows", action="store_true", help="consecutive windows instead of a random draw")
    parser.add_argument("--overlap", action="store_true", help="drawn samples of one file may overlap")
    parser.add_argument("--field", default="text", metavar="NAME", help="field of .jsonl, column of .parquet (text)")
    parser.add_argument("--bos", choices=("auto", "always", "never"), default="auto", help="see above (auto)")
    parser.add_argument("--out", required=True, metavar="FILE", help="HDF5 file to write")
    parser.add_argument("--force", action="store_true", help="replace an existing output file")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON object")
    arguments = parser.parse_args(argv)
    if arguments.weight and arguments.windows:
        parser.error("--weight has no meaning with --windows")
    if arguments.weight and len(arguments.weight) != len(arguments.text):
        parser.error(f"--weight has {len(arguments.weight)} values for {len(arguments.text)} files")
    check_out(parser, arguments)
    if arguments.samples is None and not arguments.windows:
        arguments.samples = 128
    return arguments


def is_same_file(a, b):
    try:
        return os.path.samefile(a, b)
    except OSError:  # one of them is not there
        return False


def temporary_name(path):
    return path + ".tmp"


def check_out(parser, arguments):
    """What is written may be nothing that is read, not even with --force."""
    read = [*arguments.text, *(os.path.join(arguments.model, name) for name in ("tokenizer.json", "config.json"))]
    for written in (arguments.out, temporary_name(arguments.out)):
        for path in read:
            if is_same_file(written, path):
                parser.error(f"--out {arguments.out} would overwrite {path}, which is read")


# --- reading -----------------------------------------------------------------------------------------------------------

def read_bytes(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}") from None


def decode(path, data):
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Failure(f"{path} is not UTF-8: {error.reason} at byte {error.start}") from None


def jsonl_records(path, data, field):
    for number, line in enumerate(decode(path, data).split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Failure(f"{path} line {number} is not JSON: {error}") from None
        text = record.get(field) if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise Failure(f"{path} line {number} has no text in a field '{field}' (--field names another)")
        yield text


def parquet_records(path, field):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise Failure(f"reading {path} needs pyarrow; pip install pyarrow, or give .txt or .jsonl") from None
    try:
        column = pyarrow.parquet.read_table(path, columns=[field]).column(field)
    except (OSError, KeyError, pyarrow.ArrowException) as error:
        raise Failure(f"cannot read column '{field}' of {path}: {' '.join(str(error).split())}") from None
    return [text for text in column.to_pylist() if isinstance(text, str)]


def read_text(path, field):
    """The file as one text, the SHA-256 of its bytes, and its texts: records, or paragraphs of plain text."""
    data = read_bytes(path)
    digest = hashlib.sha256(data).hexdigest()
    if path.endswith(".jsonl"):
        records = list(jsonl_records(path, data, field))
    elif path.endswith(".parquet"):
        records = parquet_records(path, field)
    else:
        text = decode(path, data)
        return text, digest, text.split("\n\n")
    return "\n\n".join(records), digest, records


def count_lengths(texts):
    """[i]: how many texts have 2^i to 2^(i+1) - 1 characters; blank ones do not count."""
    counts = []
    for length in (len(text.strip()) for text in texts):
        if length == 0:
            continue
        power = length.bit_length() - 1
        counts += [0] * (power + 1 - len(counts))
        counts[power] += 1
    return counts


def load_tokenizer(folder):
    import tokenizers
    import xxhash

    path = os.path.join(folder, "tokenizer.json")
    data = read_bytes(path)
    try:
        tokenizer = tokenizers.Tokenizer.from_str(decode(path, data))
    except Exception as error:  # tokenizers raises plain Exception
        raise Failure(f"cannot read {path}: {' '.join(str(error).split())}") from None
    tokenizer.no_truncation()  # some models' files ask for both
    tokenizer.no_padding()
    return tokenizer, xxhash.xxh3_64_hexdigest(data)


def find_bos(tokenizer, folder, mode, windows):
    """The id to put in front of each sample, or None."""
    if mode == "never" or (mode == "auto" and windows):
        return None
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    full = tokenizer.encode("a", add_special_tokens=True).ids
    if len(full) > len(plain) and full[1:len(plain) + 1] == plain:
        return full[0]
    if mode == "auto":
        return None
    path = os.path.join(folder, "config.json")
    try:
        bos = json.loads(decode(path, read_bytes(path))).get("bos_token_id")
    except (ValueError, AttributeError):
        raise Failure(f"{path} is not a JSON object") from None
    if not isinstance(bos, int) or isinstance(bos, bool):
        raise Failure(f"--bos always: neither {folder}/tokenizer.json nor {path} names a beginning-of-sequence token")
    return bos


def tokenize_sources(arguments, tokenizer):
    """One dict per file: file, sha256, weight, ids (int32 [tokens]), lengths."""
    import numpy

    sources = []
    weights = arguments.weight or [1.0] * len(arguments.text)
    for path, weight in zip(arguments.text, weights):
        text, digest, texts = read_text(path, arguments.field)
        twin = [source["file"] for source in sources if source["sha256"] == digest]
        if twin:
            raise Failure(f"{path} has the same content as {twin[0]}; give it once, with a larger --weight")
        ids = numpy.array(tokenizer.encode(text, add_special_tokens=False).ids, dtype=numpy.int32)
        sources.append({"file": path, "sha256": digest, "weight": weight, "ids": ids, "lengths": count_lengths(texts)})
    return sources


# --- choosing samples --------------------------------------------------------------------------------------------------

def share_samples(sources, samples):
    """Samples per source in proportion to weight; leftovers to the largest remainders, ties in the sources' order."""
    total = math.fsum(source["weight"] for source in sources)
    exact = [samples * source["weight"] / total for source in sources]
    counts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(sources)), key=lambda i: (counts[i] - exact[i], i))
    for i in by_remainder[:samples - sum(counts)]:
        counts[i] += 1
    return counts


def generator_of(seed, digest):
    import numpy

    words = [int(digest[i:i + 8], 16) for i in range(0, len(digest), 8)]
    return numpy.random.Generator(numpy.random.PCG64(numpy.random.SeedSequence([seed, *words])))


def draw_starts(source, count, span, overlap, generator):
    """Sorted first positions of `count` windows of `span` tokens.

    Without overlap: n windows leave T - n * span tokens free; sorted random cuts of that rest are the gaps before them."""
    import numpy

    tokens = len(source["ids"])
    needed = span if overlap else count * span
    if tokens < needed:
        remedy = "give more text" if overlap else "give more text, ask for less, or allow --overlap"
        raise Failure(f"{source['file']} has {tokens} tokens, {count} samples of {span} need {needed}; {remedy}")
    starts = numpy.sort(generator.integers(0, tokens - needed, count, endpoint=True))
    return starts if overlap else starts + span * numpy.arange(count)


def draw_samples(sources, arguments, span):
    """int32 [samples, span]; fills in every source's `samples`."""
    import numpy

    ordered = sorted(sources, key=lambda source: source["sha256"])
    drawn = []
    for source, count in zip(ordered, share_samples(ordered, arguments.samples)):
        source["samples"] = count
        if count == 0:
            continue
        starts = draw_starts(source, count, span, arguments.overlap, generator_of(arguments.seed, source["sha256"]))
        drawn.append(source["ids"][starts[:, None] + numpy.arange(span)])
    everything = numpy.concatenate(drawn)
    return everything[generator_of(arguments.seed, "").permutation(len(everything))]


def cut_windows(sources, arguments, span):
    """int32 [windows, span]; fills in every source's `samples`."""
    import numpy

    left = arguments.samples if arguments.samples is not None else sys.maxsize
    pieces = []
    for source in sources:
        count = min(len(source["ids"]) // span, left)
        source["samples"] = count
        left -= count
        pieces.append(source["ids"][:count * span].reshape(count, span))
    windows = numpy.concatenate(pieces)
    if len(windows) == 0 or (arguments.samples is not None and left > 0):
        wanted = f"{arguments.samples} windows" if arguments.samples is not None else "one window"
        tokens = sum(len(source["ids"]) for source in sources)
        raise Failure(f"too little text: {wanted} of {span} tokens wanted, {len(windows)} fit into {tokens} tokens")
    return windows


def choose_samples(sources, arguments, bos):
    import numpy

    span = arguments.length - (bos is not None)
    if span < 1:
        raise Failure("--length 1 leaves no room beside the beginning-of-sequence token")
    samples = (cut_windows if arguments.windows else draw_samples)(sources, arguments, span)
    if bos is None:
        return samples
    return numpy.concatenate([numpy.full((len(samples), 1), bos, numpy.int32), samples], axis=1)


# --- result ------------------------------------------------------------------------------------------------------------

def describe(arguments, sources, samples, tokenizer, tokenizer_digest, bos):
    """The provenance: integers and strings only, lists as JSON text."""
    import numpy
    import tokenizers

    listed = [{"file": source["file"], "sha256": source["sha256"], "weight": source["weight"],
               "tokens": len(source["ids"]), "samples": source["samples"], "record_lengths": source["lengths"]}
              for source in sources]
    return {"method": "windows" if arguments.windows else "draw-overlap" if arguments.overlap else "draw",
            "method_version": METHOD_VERSION, "seed": str(arguments.seed), "samples": len(samples),
            "length": arguments.length, "bos": -1 if bos is None else bos, "tokenizer_xxh3": tokenizer_digest,
            "tokenizer_vocabulary": tokenizer.get_vocab_size(), "vocabulary_seen": len(numpy.unique(samples)),
            "sources": json.dumps(listed, sort_keys=True), "field": arguments.field,
            "versions": f"tokenizers {tokenizers.__version__}, numpy {numpy.__version__}"}


def write_tokens(path, samples, provenance):
    import h5py

    temporary = temporary_name(path)
    try:
        with h5py.File(temporary, "w", libver="v110") as file:
            dataset = file.create_dataset("tokens", data=samples, dtype="<i4")
            for key, value in provenance.items():
                dataset.attrs[key] = value
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        words = os.strerror(error.errno) if error.errno else " ".join(str(error).split())  # not h5py's, which are many
        raise Failure(f"cannot write {path}: {words}") from None
    finally:
        if os.path.isfile(temporary):
            os.remove(temporary)


def describe_frequency(samples):
    """How evenly the sample's tokens are spread over the vocabulary it uses."""
    import numpy

    counts = numpy.sort(numpy.unique(samples, return_counts=True)[1])[::-1]
    shares = numpy.cumsum(counts) / samples.size
    half, most = (int(numpy.searchsorted(shares, share)) + 1 for share in (0.5, 0.9))
    return f"{half} tokens make half of the sample, {most} make 90 %; {int((counts == 1).sum())} occur once"


def describe_lengths(counts):
    """The powers of two between which the middle half of the texts' lengths lies."""
    total, seen, bounds = sum(counts), 0, []
    for power, count in enumerate(counts):
        for share in (0.25, 0.75):
            if seen < share * total <= seen + count:
                bounds.append(2 ** (power + (share > 0.5)))
        seen += count
    if not bounds:
        return "no texts"
    return f"{total} texts, half of them of {bounds[0]} to {bounds[1]} characters"


def print_summary(path, samples, provenance):
    vocabulary, seen = provenance["tokenizer_vocabulary"], provenance["vocabulary_seen"]
    seed = "" if provenance["method"] == "windows" else f", seed {provenance['seed']}"
    print(f"{path}: {len(samples)} samples x {samples.shape[1]} tokens = {samples.size} ({provenance['method']}{seed})")
    print(f"vocabulary seen: {seen} of {vocabulary} ({100.0 * seen / vocabulary:.1f} %)")
    print(f"frequency: {describe_frequency(samples)}")
    for source in json.loads(provenance["sources"]):
        print(f"  {source['file']}: {source['samples']} samples ({100 * source['samples'] / len(samples):.0f} %) "
              f"of {source['tokens']} tokens of text; {describe_lengths(source['record_lengths'])}")


def run(arguments):
    if os.path.islink(arguments.out) or (os.path.exists(arguments.out) and not os.path.isfile(arguments.out)):
        raise Failure(f"{arguments.out} is no regular file, and nothing else is replaced")
    if os.path.exists(arguments.out) and not arguments.force:
        raise Failure(f"{arguments.out} exists already; --force replaces it")
    folder = os.path.dirname(arguments.out) or "."
    if not os.path.isdir(folder):
        raise Failure(f"cannot write {arguments.out}: {folder} is not a folder that is there")
    tokenizer, digest = load_tokenizer(arguments.model)
    bos = find_bos(tokenizer, arguments.model, arguments.bos, arguments.windows)
    sources = tokenize_sources(arguments, tokenizer)
    samples = choose_samples(sources, arguments, bos)
    provenance = describe(arguments, sources, samples, tokenizer, digest, bos)
    write_tokens(arguments.out, samples, provenance)
    if arguments.json:
        print(json.dumps({**provenance, "out": arguments.out, "sources": json.loads(provenance["sources"])}))
    else:
        print_summary(arguments.out, samples, provenance)


def main():
    arguments = parse_arguments(sys.argv[1:])
    try:
        run(arguments)
    except Failure as failure:
        sys.exit(f"{PROGRAM}: {failure}")
    except ImportError as error:
        sys.exit(f"{PROGRAM}: {error}; ./bootstrap build installs what is needed into .venv")


if __name__ == "__main__":
    main()
