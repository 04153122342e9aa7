"""The results of peers.py as Markdown: medians over repetitions, ratios of runs of the same repetition, losses."""

import math
import statistics

COLUMNS = (("wall", "total s", 1), ("call_wall", "call s", 1), ("cpu", "CPU s", 1), ("peak_mb", "peak MB", 0))


def median_and_all(values, digits):
    if not values:
        return "-"
    text = f"{statistics.median(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({', '.join(f'{value:.{digits}f}' for value in values)})"


def mean_and_error(values, digits):
    """The mean with its standard error over calibrations."""
    mean = statistics.fmean(values)
    if len(values) == 1:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {statistics.stdev(values) / math.sqrt(len(values)):.{digits}f}"


def perplexity(losses):
    return f"{math.exp(statistics.fmean(losses)):.2f}"


def row_of(name, runs):
    cells = [median_and_all([run[key] for run in runs], digits) for key, _, digits in COLUMNS]
    losses = [run["nll"] for run in runs if "nll" in run]
    cells += [mean_and_error(losses, 4), perplexity(losses)] if losses else ["-", "-"]
    return f"| {name} | " + " | ".join(cells) + " |"


def figures_table(results):
    yield "| | " + " | ".join(title for _, title, _ in COLUMNS) + " | loss | perplexity |"
    yield "|---" * (len(COLUMNS) + 3) + "|"
    if "original" in results:
        yield f"| original | - | - | - | - | {results['original']['nll']:.4f} | {results['original']['perplexity']:.2f} |"
    for name, runs in results["runs"].items():
        if runs:
            yield row_of(name, runs)


def ratios(runs, base, key, base_key=None):
    return [run[key] / other[base_key or key] for run, other in zip(runs, base)]


def ratio_table(results):
    """How many times as much the others take as the first contender, repetition by repetition."""
    (first, base), *others = results["runs"].items()
    yield f"| times {first} | total / total | call / call | call / total | CPU | peak memory |"
    yield "|---|---|---|---|---|---|"
    for name, runs in others:
        if not runs or not base:
            continue
        columns = [ratios(runs, base, "wall"), ratios(runs, base, "call_wall"), ratios(runs, base, "call_wall", "wall"),
                   ratios(runs, base, "cpu"), ratios(runs, base, "peak_mb")]
        yield f"| {name} | " + " | ".join(median_and_all(column, 2) for column in columns) + " |"


def render(results):
    lines = [f"{results['title']}", "", *figures_table(results), "", *ratio_table(results), "",
             "total: the whole process, from its start to the written checkpoint, with imports and reading the model. "
             "call: the quantize call alone; of shardq its own time without the stages read and assemble. "
             "CPU: user + system of the whole process. peak: largest resident set, of several ranks the sum. "
             "Medians of the repetitions in parentheses; loss: mean over calibrations ± standard error."]
    return "\n".join(lines) + "\n"
