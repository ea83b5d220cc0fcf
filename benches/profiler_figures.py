"""The arithmetic of the profilers' benchmark: from the runs of a workload to what profiling costs.

A case is a profiler on a workload, with a value a round in each column. A cost is the ratio to a base in the same round
(plain python, or our heap with no profile), and of the rounds' ratios the median. Above 1 the profiler takes longer, or
more memory: elsewhere on the page it is the other way about.
"""

import statistics

from figures import geometric_mean

PLAIN, OFF = "plain", "off"
ALLOC_MIX, INSTRUCTIONS = "alloc_mix", "instructions"


def ratio(column, base):
    """The median of the rounds' ratios; null where no round has both."""
    pairs = [(value, other) for value, other in zip(column, base, strict=True) if value and other]
    return statistics.median(value / other for value, other in pairs) if pairs else None


def seconds_by_part(result, key, base=PLAIN):
    """Part → times as long as the base; empty where one of the two did not run."""
    own, other = (result["cases"].get(name) for name in (key, base))
    if not own or not other:
        return {}
    ratios = {part: ratio(column, other["seconds"][part]) for part, column in own["seconds"].items()}
    return {part: found for part, found in ratios.items() if found}


def cost(result, key, base=PLAIN):
    """Times as long as the base, the geometric mean of a workload's parts; null where one of the two did not run."""
    ratios = seconds_by_part(result, key, base)
    return geometric_mean(ratios.values()) if ratios else None


def growth(result, key, name, base=PLAIN):
    """A column of sizes or of whole times against the base's; null where one of the two did not run."""
    own, other = (result["cases"].get(case) for case in (key, base))
    return ratio(own[name], other[name]) if own and other else None


def capture_bytes(result, key):
    """The median size of what a profiler wrote; null where it writes nothing or did not run."""
    known = [size for size in result["cases"].get(key, {}).get("capture_bytes", []) if size is not None]
    return statistics.median(known) if known else None


def mean(values):
    """The geometric mean; null where a value is missing, or all are."""
    return geometric_mean(values) if values and None not in values else None


def instructions(result, key, base):
    """Instructions against a base's; null where one of the two has no count."""
    counts = [result["entrants"].get(name, {}).get("counts") for name in (key, base)]
    return counts[0]["instructions"] / counts[1]["instructions"] if all(counts) else None


def suite(results):
    """The results of pyperformance's benchmarks, by name."""
    return {name: result for name, result in results.items() if name not in (ALLOC_MIX, INSTRUCTIONS)}
