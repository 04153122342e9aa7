#!/usr/bin/env python3
"""trace.py FILE RANKS: a trace is what readers of Chrome's trace format want, Perfetto above all: threads with numbers of
their own, which no process has; spans of a track beside or within one another; names of tracks; a counter of memory."""

import json
import sys


def check(good, words):
    if not good:
        sys.exit(f"FAIL: {words}")


def nanoseconds(event, key):
    value = round(1000 * event[key])
    check(abs(value - 1000 * event[key]) < 1e-3 * max(1, event["ts"]), f"{key} {event[key]} is no whole number of nanoseconds")
    return value


def check_nesting(spans, track):
    around = []
    order = sorted((nanoseconds(span, "ts"), -nanoseconds(span, "dur")) for span in spans)
    for start, minus_length in order:
        while around and around[-1] <= start:
            around.pop()
        check(not around or start - minus_length <= around[-1], f"{track}: a span that begins at {start} ns ends behind the one around it")
        around.append(start - minus_length)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        trace = json.load(file)
    ranks, events = int(sys.argv[2]), trace["traceEvents"]
    spans = [event for event in events if event["ph"] == "X"]
    tracks = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    processes = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "process_name"}
    threads = [thread for _, thread in tracks]
    always = ["collectives", "files", "stages"]  # there are more on a device
    check(sorted(name for name in tracks.values() if name in always) == sorted(always * ranks), f"tracks {tracks}")
    check(sorted(processes) == list(range(1, ranks + 1)), f"processes {processes}")
    check(all(processes[rank + 1].startswith(f"rank {rank} on ") for rank in range(ranks)), f"names {processes}")
    check(len(set(threads)) == len(tracks) and 0 not in threads and not set(threads) & set(processes), f"threads {threads}")
    for track, name in tracks.items():
        own = [span for span in spans if (span["pid"], span["tid"]) == track]
        check(own or name == "files" or (ranks == 1 and name == "collectives"), f"no spans of {name} {track}")
        check(all(name.startswith(span["cat"]) for span in own), f"spans of {name} {track} are of another category")
        check_nesting(own, f"{name} {track}")
    check({(span["pid"], span["tid"]) for span in spans} <= set(tracks), "a span of no track")
    counters = [event for event in events if event["ph"] == "C"]
    check({event["pid"] for event in counters} == set(processes), "memory of every rank")
    check(all(event["name"] == "memory" and event["args"]["bytes"] > 0 for event in counters), "memory over time")
    last = 1e6 * trace["otherData"]["seconds"] + 1
    check(all(0 <= span["ts"] and span["ts"] + span["dur"] <= last for span in spans), "a span outside the run")


if __name__ == "__main__":
    main()
