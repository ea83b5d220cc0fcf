"""What the project set out to reach with its profiler, held against what was measured.

A promise without a figure is "not measured", never "yes".
"""

import profiler_figures as figures
from profiler_figures import ALLOC_MIX, INSTRUCTIONS, OFF, PLAIN
from promises import Verdict
from wording import percent, size, times

EXACT_GOAL = 1.5
EXACT_SUITE_GOAL = 1.3
SAMPLING_GOAL = 1.01  # of all instructions with no profile
CAPTURE_GOAL_BYTES = 10**6
# Peak sizes, above a run with no profile.
MEMORY_GOALS = {"exact": 0.15, "sample": 0.02}


def verdicts(results):
    """Every promise, judged by what was measured."""
    return [
        on_time("`alloc_mix`, exact: times as long as plain python", EXACT_GOAL, alloc_mix_cost(results)),
        on_time("the subset's mean, exact: times as long as plain python", EXACT_SUITE_GOAL, suite_cost(results)),
        on_sampling(results.get(INSTRUCTIONS)),
        on_capture(results.get(ALLOC_MIX)),
        *(on_memory(results, key, goal) for key, goal in MEMORY_GOALS.items()),
    ]


def alloc_mix_cost(results):
    """What exact mode costs on alloc_mix."""
    return figures.cost(results[ALLOC_MIX], "exact") if ALLOC_MIX in results else None


def suite_cost(results):
    """What exact mode costs on pyperformance's benchmarks, on the mean."""
    return figures.mean([figures.cost(result, "exact") for result in figures.suite(results).values()])


def on_time(claim, goal, found):
    """A promise about times."""
    return Verdict(claim, f"≤ {times(goal)}", *((times(found), found <= goal) if found else ()))


def on_sampling(result):
    """What the profiler that is always on costs."""
    found = figures.instructions(result, "sampled", "unsampled") if result else None
    measured = (times(found, 4), found <= SAMPLING_GOAL) if found else ()
    return Verdict("instructions with sampling, of those with no profile", f"≤ {times(SAMPLING_GOAL)}", *measured)


def on_capture(result):
    """The size of a capture."""
    found = figures.capture_bytes(result, "capture") if result else None
    measured = (size(found), found <= CAPTURE_GOAL_BYTES) if found else ()
    return Verdict("the capture of `alloc_mix`, exact", f"≤ {size(CAPTURE_GOAL_BYTES)}", *measured)


def on_memory(results, key, goal):
    """Peak size against plain python and against our heap with no profile; the larger counts."""
    claim = f"peak memory of `alloc_mix` with `--profile {key}`, above a run with none"
    found = {base: alloc_mix_memory(results, key, base) for base in (PLAIN, OFF)}
    if None in found.values():
        return Verdict(claim, f"≤ {goal * 100:.0f} %")
    words = f"{percent(found[PLAIN])} of plain python's, {percent(found[OFF])} of our heap's"
    return Verdict(claim, f"≤ {goal * 100:.0f} %", words, max(found.values()) <= goal)


def alloc_mix_memory(results, key, base):
    """What a profile adds to the peak size, as a share of a base's; null where it is not known."""
    found = figures.growth(results[ALLOC_MIX], key, "peak_rss_mib", base) if ALLOC_MIX in results else None
    return None if found is None else round(found - 1, 6)
