"""The results of quality.py as Markdown. Every figure is made for each seed first, then averaged over seeds; differences and
ratios are those of runs with the same seed."""

import math
import statistics


def mean_and_error(values, digits, sign=""):
    text = f"{statistics.fmean(values):{sign}.{digits}f}"
    if len(values) == 1:
        return text
    return f"{text} ± {statistics.stdev(values) / math.sqrt(len(values)):.{digits}f}"


def mean_ratio(run, base, kind):
    """Mean over layers of error / error of the base."""
    return statistics.fmean(run[kind][name] / base[kind][name] for name in base[kind])


def ratio_of_means(run, base, kind):
    return sum(run[kind].values()) / sum(base[kind].values())


def row(title, pairs, is_base):
    """pairs: (run, run of the base with the same seed)."""
    cells = [mean_and_error([mean_ratio(*pair, "calibration") for pair in pairs], 3),
             mean_and_error([mean_ratio(*pair, "held_out") for pair in pairs], 3),
             mean_and_error([ratio_of_means(*pair, "held_out") for pair in pairs], 3)]
    if is_base:
        cells = ["1", "1", "1"]
    losses = [run["loss"] for run, _ in pairs]
    against = "0" if is_base else mean_and_error([run["loss"] - base["loss"] for run, base in pairs], 4, "+")
    cells += [mean_and_error(losses, 4), against, f"{math.exp(statistics.fmean(losses)):.2f}"]
    return f"| {title} | " + " | ".join(cells) + " |"


def table(results, bits, titles, base):
    runs = {(result["setting"], result["seed"]): result for result in results if result["bits"] == bits}
    seeds = sorted({seed for _, seed in runs})
    yield f"{bits} bits, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}:"
    yield ""
    yield "| | error, calibration | error, held-out | held-out, ratio of means | loss | loss, difference | perplexity |"
    yield "|---" * 7 + "|"
    for setting, title in titles.items():
        pairs = [(runs[setting, seed], runs[base, seed]) for seed in seeds if (setting, seed) in runs and (base, seed) in runs]
        if pairs:
            yield row(title, pairs, setting == base)
    yield ""


def render(results, all_bits, titles, base, original):
    lines = [line for bits in all_bits for line in table(results, bits, titles, base)]
    lines.append(f"Errors are relative to \"{titles[base]}\" layer by layer (ratio of means: mean error over mean error). Loss in "
                 f"nats; of the original {original:.4f} (perplexity {math.exp(original):.2f}). ±: standard error over seeds.")
    return "\n".join(lines) + "\n"
