"""The arithmetic of the benchmark pages: ratios, means, and when a difference counts.

Every ratio of times reads "times as fast as the baseline": above 1 is faster, below 1 is slower.
"""

import math
import statistics

# pyperformance: slower than the baseline by more than this, in every round, is a finding; anything less is noise here.
SLOWER_BY = 0.03
# alloc_mix: a part counts as faster or slower from this difference on.
NOTEWORTHY = 0.03


def geometric_mean(values):
    """The geometric mean, which treats "twice as fast" and "half as fast" alike."""
    return math.exp(statistics.fmean(math.log(value) for value in values))


def summary(runs):
    """Medians, minima and spreads over the runs of one rival on alloc_mix (`runs` as that workload printed them)."""
    parts = {}
    for part in runs[0]["seconds"]:
        seconds = [run["seconds"][part] for run in runs]
        parts[part] = {"median_s": statistics.median(seconds), "min_s": min(seconds), "max_s": max(seconds)}
    return {
        "parts": parts,
        "total_s": statistics.median(run["total_s"] for run in runs),
        "peak_rss_mib": statistics.median(run["peak_rss_mib"] for run in runs),
        "end_rss_mib": statistics.median(run["end_rss_mib"] for run in runs),
        "rounds": len(runs),
    }


def compare(own, baseline):
    """A rival's summary against its baseline's: ratios by part, their mean by medians and by minima, and RSS."""
    ratios = {part: baseline["parts"][part]["median_s"] / own["parts"][part]["median_s"] for part in own["parts"]}
    by_minima = [baseline["parts"][part]["min_s"] / own["parts"][part]["min_s"] for part in own["parts"]]
    return {
        "ratios": ratios,
        "mean": geometric_mean(ratios.values()),
        "mean_by_minima": geometric_mean(by_minima),
        "peak_rss": own["peak_rss_mib"] / baseline["peak_rss_mib"],
        "end_rss": own["end_rss_mib"] / baseline["end_rss_mib"],
    }


def comparisons(alloc_mix):
    """For every rival that ran: its summary, and how it compares with its baseline (null for a baseline itself)."""
    summaries = {key: summary(rival["runs"]) for key, rival in alloc_mix["rivals"].items() if rival.get("runs")}
    table = {}
    for key, own in summaries.items():
        baseline = alloc_mix["rivals"][key]["baseline"]
        comparable = baseline != key and baseline in summaries
        table[key] = {"summary": own, "against": compare(own, summaries[baseline]) if comparable else None}
    return table


def suite_ratios(values, rival, baseline="pymalloc"):
    """By round, how many times as fast as the baseline: `values` is rival → round → seconds of each value taken.

    A round that either side did not finish is left out.
    """
    rounds = zip(values.get(baseline, []), values.get(rival, []), strict=False)
    return [statistics.median(base) / statistics.median(own) for base, own in rounds if base and own]


def is_slower(ratios, rounds):
    """Whether a benchmark is slower beyond the noise: by more than `SLOWER_BY` in each of the rounds."""
    return len(ratios) == rounds and all(ratio < 1 / (1 + SLOWER_BY) for ratio in ratios)


def suite_table(suite, rival):
    """One row a benchmark: its ratios by round, their geometric mean, and whether it is slower beyond the noise."""
    rows = []
    for name, benchmark in suite["benchmarks"].items():
        ratios = suite_ratios(benchmark["seconds"], rival)
        if ratios:
            rows.append(
                {
                    "name": name,
                    "ratios": ratios,
                    "mean": geometric_mean(ratios),
                    "slower": is_slower(ratios, suite["rounds"]),
                }
            )
    return rows


def sampling_cost(result):
    """Instructions with sampling over those without, less one; null where one of the two is missing."""
    counts = {key: entrant["counts"] for key, entrant in result["entrants"].items()}
    if not counts["sampled"] or not counts["unsampled"]:
        return None
    return counts["sampled"]["instructions"] / counts["unsampled"]["instructions"] - 1


def startup_rows(result):
    """One row a way of starting: median and fastest in milliseconds, and what it adds to plain python's median."""
    ways = result["ways"]
    plain_ms = statistics.median(ways["plain"]["milliseconds"])
    rows = []
    for key, way in ways.items():
        row = {"label": way["label"], "missing": way["missing"], "median": None, "fastest": None, "added": None}
        if not way["missing"]:
            row["median"] = statistics.median(way["milliseconds"])
            row["fastest"] = min(way["milliseconds"])
            row["added"] = None if key == "plain" else row["median"] - plain_ms
        rows.append(row)
    return rows
