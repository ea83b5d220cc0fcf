"""The arithmetic of the crate's benchmark: from runs to nanoseconds and bytes, who leaks, and the ratios.

A run's time is the median of its repetitions, which are warm; the first, on fresh memory, is kept apart. Every ratio of
times reads "times as fast as the other": above 1 heapkeeper is faster.
"""

import statistics

OWN = "heapkeeper"
# Whom the promises are about: those that collect cycles behind a handle that is used like `Rc`.
COLLECTORS = ("dumpster", "rust-cc", "gc", "bacon_rajan_cc")
# What the later repetitions of a run leave behind, an object. Tables that grow leave less; the smallest object is more.
LEAK_BYTES = 4.0
LEAKS = "leaks"
STACK = "overflows the stack"
# Peaks that differ by less are the same: a process's own start varies by as much.
SAME_PEAK_BYTES = 1 << 20


def summary(runs):
    """Medians and minima over the runs of one crate on one workload."""
    phases = {}
    for phase in runs[0]["phases"]:
        times = [run["phases"][phase] for run in runs]
        phases[phase] = {
            "median_ns": statistics.median(statistics.median(repetitions) for repetitions in times),
            "min_ns": min(min(repetitions) for repetitions in times),
            "first_ns": statistics.median(repetitions[0] for repetitions in times),
        }
    return {
        "phases": phases,
        "peak_bytes": statistics.median(run["peak_bytes"] for run in runs),
        "leaked_bytes": statistics.median(run["leaked_bytes_per_object"] for run in runs),
        "bytes_per_object": median_of(runs, lambda run: run["bytes_per_object"]),
        "scratch_share": median_of(runs, lambda run: run["scratch_bytes"] / run["live_bytes"]),
    }


def median_of(runs, value):
    """The median of a figure that only some workloads have; null where it is not there."""
    try:
        return statistics.median(value(run) for run in runs)
    except KeyError:
        return None


def summaries(result):
    """Crate → its summary on one workload, for those that did it: ended well, and leak nothing."""
    ran = {
        key: summary(entry["runs"]) for key, entry in result["crates"].items() if entry["runs"] and not entry["missing"]
    }
    return {key: own for key, own in ran.items() if own["leaked_bytes"] <= LEAK_BYTES}


def unable(result):
    """Crate → why there are no figures of it on one workload: a reason, and its amount in words, which may be empty."""
    reasons = {}
    for key, entry in result["crates"].items():
        if entry["missing"]:
            reasons[key] = (entry["missing"], "")
        elif entry["runs"] and (leaked := summary(entry["runs"])["leaked_bytes"]) > LEAK_BYTES:
            reasons[key] = (LEAKS, f"{leaked:.0f} bytes an object made")
    return reasons


def best(ran, phase, figure="median_ns", among=COLLECTORS):
    """The crate among some that is fastest at a phase, and its time; null where none of them did it."""
    times = {key: ran[key]["phases"][phase][figure] for key in among if key in ran and phase in ran[key]["phases"]}
    return min(times.items(), key=lambda entry: entry[1], default=None)


def ratio(ran, phase, other, figure="median_ns"):
    """How many times as fast as another crate heapkeeper is; null where one of the two has no figure."""
    times = [ran[key]["phases"].get(phase, {}).get(figure) for key in (other, OWN) if key in ran]
    return times[0] / times[1] if len(times) == 2 and all(times) else None


def ratio_to_best(ran, phase, figure="median_ns"):
    """How many times as fast as the fastest of `COLLECTORS` heapkeeper is."""
    found = best(ran, phase, figure)
    return ratio(ran, phase, found[0], figure) if found else None


def leanest(ran, figure):
    """The least memory that one of `COLLECTORS` needs; null where none has the figure."""
    return min((ran[key][figure] for key in COLLECTORS if key in ran and ran[key][figure] is not None), default=None)
