"""What the project set out to reach with this heap, held against what was measured.

A promise without a figure is "not measured", never "yes".
"""

from dataclasses import dataclass

import figures
from wording import percent, share, table, times

MEAN_GOAL = 1.25
MEAN_GOAL_WITHOUT_HUGE_PAGES = 1.10
PEAK_RSS_GOAL = 1.05  # of pymalloc's
END_RSS_GOAL = 1.00  # of pymalloc's
SUITE_MEAN_GOAL = 1.00
SAMPLING_GOAL = 0.01  # of all instructions
STARTUP_GOAL_MS = 25.0


@dataclass(frozen=True)
class Verdict:
    """One promise: what it is about, the goal in words, the figure in words, and whether it holds (null: no figure)."""

    claim: str
    goal: str
    figure: str = "not measured"
    holds: bool | None = None


def section(parts):
    """The promises about the heap, under their heading."""
    return "### What was to be reached\n\n" + table_of(verdicts(parts))


def table_of(verdicts):
    """Promises as a table."""
    words = {True: "yes", False: "**no**", None: "–"}
    rows = [[verdict.claim, verdict.goal, verdict.figure, words[verdict.holds]] for verdict in verdicts]
    return table(["", "goal", "measured", "holds"], rows)


def verdicts(parts):
    """Every promise, judged by the parts that were measured."""
    results = {name: part["result"] for name, part in parts.items()}
    return [
        *on_alloc_mix(results.get("alloc_mix")),
        *on_pyperformance(results.get("pyperformance")),
        on_sampling(results.get("instructions")),
        on_startup(results.get("startup")),
    ]


def on_alloc_mix(result):
    """Speed with and without huge pages, memory at the end and at the peak."""
    compared = figures.comparisons(result) if result else {}
    own = compared.get("heapkeeper", {}).get("against")
    small = compared.get("heapkeeper-small", {}).get("against")

    def speed(claim, against, goal):
        measured = (times(against["mean"]), against["mean"] >= goal) if against else ()
        return Verdict(claim, f"≥ {times(goal)}", *measured)

    def memory(claim, key, goal, words):
        measured = (f"{share(own[key])} of pymalloc's", own[key] <= goal) if own else ()
        return Verdict(claim, words, *measured)

    return [
        speed("`alloc_mix`, mean of its five parts", own, MEAN_GOAL),
        speed("the same where huge pages are not allowed", small, MEAN_GOAL_WITHOUT_HUGE_PAGES),
        memory("memory after `alloc_mix`", "end_rss", END_RSS_GOAL, "≤ pymalloc's"),
        memory("peak memory of `alloc_mix`", "peak_rss", PEAK_RSS_GOAL, "≤ 105 % of pymalloc's"),
    ]


def on_pyperformance(result):
    """The benchmarks that are slower beyond the noise, and the mean of all."""
    claims = "pyperformance: benchmarks more than 3 % slower in every round", "pyperformance, mean"
    goals = "none", f"≥ {times(SUITE_MEAN_GOAL, 3)}"
    rows = figures.suite_table(result, "heapkeeper") if result else []
    if not rows:
        return [Verdict(*promise) for promise in zip(claims, goals, strict=True)]
    slower = [row["name"] for row in rows if row["slower"]]
    mean = figures.geometric_mean(row["mean"] for row in rows)
    count = f"{len(slower)} of {len(rows)}" + (f": {', '.join(slower)}" if slower else "")
    return [
        Verdict(claims[0], goals[0], count, not slower),
        Verdict(claims[1], goals[1], times(mean, 3), mean >= SUITE_MEAN_GOAL),
    ]


def on_sampling(result):
    """What the profiler that is always on costs."""
    cost = figures.sampling_cost(result) if result else None
    measured = (percent(cost), cost <= SAMPLING_GOAL) if cost is not None else ()
    return Verdict("instructions that sampling at 512 KiB adds", "≤ 1 %", *measured)


def on_startup(result):
    """The slowest way of starting against plain python."""
    added = [row["added"] for row in figures.startup_rows(result) if row["added"] is not None] if result else []
    measured = (f"{max(added):.1f} ms", max(added) <= STARTUP_GOAL_MS) if added else ()
    return Verdict("start-up above plain python's, slowest way", f"≤ {STARTUP_GOAL_MS:.0f} ms", *measured)
