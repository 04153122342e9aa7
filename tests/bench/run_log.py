"""What a run of `shardq quantize` says about itself: its events (--log) and the summary among its messages."""

import json
import re


def read_events(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def stage_seconds(log):
    """Seconds of rank 0 by stage, from the summary's line "time X s: read X, forward X, ..."."""
    with open(log, encoding="utf-8") as file:
        line = [line for line in file if re.match(r" *time .* s: ", line)][-1]
    return {name: float(value) for name, value in re.findall(r"(\w+) ([\d.]+)(?:,|$)", line.split(":", 1)[1])}
