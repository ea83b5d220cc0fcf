"""What the project set out to reach with the collector under CPython, held against what was measured.

A promise without a figure is "not measured", never "yes".
"""

import collector_figures as figures
from collector_figures import BASE, BESIDE, NOISE, OWN, case
from promises import Verdict
from wording import mib, share, times

# What the promises are about. Heaps of other sizes run once.
MAIN_SIZE = 3_000_000
SCRATCH_GOAL = 0.10  # of the tracked objects' bytes
LASTING_GOAL_MIB = 1.0  # a process's size varies by as much for no reason
TIMER_MS = 1.0  # the load generator's clock: it wakes by the millisecond

# Heap, whether it is settled, event, and how many times as fast as CPython's own collector ours was to be.
GOALS = (
    ("recycled", False, "again", 6.0),
    ("recycled", True, "again", 4.0),
    ("shuffled", False, "again", 7.0),
    ("shuffled", True, "again", 1.0),
    ("trees", False, "again", 3.5),
    ("recycled", False, "first", 2.0),
    ("recycled", False, "replaced", 3.0),
)
EVENT_WORDS = {"again": "repeated", "first": "the first", "replaced": "after a tenth was replaced"}


def verdicts(results):
    """Every promise, judged by what was measured."""
    heaps = figures.by_size(results).get(MAIN_SIZE, {})
    return [
        *(on_heap(heaps.get(heap), heap, settled, event, goal) for heap, settled, event, goal in GOALS),
        no_slower("heaps of nothing but garbage, the worst", figures.garbage_ratios(results.get("garbage"))),
        no_slower("young collections and allocation, the worst", figures.young_ratios(results.get("young"))),
        on_service(results.get("service"), OWN, "the service's p99"),
        on_service(results.get("service"), BESIDE, "the same with `--gc background`"),
        *on_memory(heaps),
    ]


def on_heap(result, heap, settled, event, goal):
    """A promise about full collections of one heap."""
    order = ", settled" if settled else ""
    claim = f"`{heap}`{order}: {EVENT_WORDS[event]}"
    found = figures.speed(result, case(OWN, settled), case(BASE, settled), event) if result else None
    if goal == 1:
        return Verdict(claim, "no slower", *((times(found), found >= 1 / (1 + NOISE)) if found else ()))
    return Verdict(claim, f"≥ {times(goal)}", *((times(found), found >= goal) if found else ()))


def no_slower(claim, ratios):
    """A promise about the worst of several ratios."""
    known = {name: found for name, found in ratios.items() if found}
    if not known:
        return Verdict(claim, "no slower")
    worst = min(known, key=known.get)
    return Verdict(claim, "no slower", f"{times(known[worst])} ({worst})", known[worst] >= 1 / (1 + NOISE))


def on_service(result, key, claim):
    """The service's p99 against the rounds with the collector off."""
    goal = f"≤ {TIMER_MS:.0f} ms above the highest of a round with no collector"
    own = figures.median(result, key, "p99") if result and result["cases"].get(key) else None
    off = result["cases"].get(f"{BASE} off", {}).get("p99") if result else None
    if own is None or not off:
        return Verdict(claim, goal)
    return Verdict(
        claim, goal, f"{own:.1f} ms; without {min(off):.1f} to {max(off):.1f} ms", own <= max(off) + TIMER_MS
    )


def on_memory(heaps):
    """What a collection takes while it runs, and after."""
    claims = "memory that a collection takes meanwhile, at most", "memory that lasts after"
    goals = f"≤ {share(SCRATCH_GOAL)} of the tracked objects", f"≤ {mib(LASTING_GOAL_MIB)}"
    found = [figures.memory(result, case(OWN, settled)) for _, settled, _, result in figures.rows_of(heaps)]
    known = [memory for memory in found if memory]
    if not known:
        return [Verdict(*promise) for promise in zip(claims, goals, strict=True)]
    scratch = max(map(figures.scratch_share, known))
    lasting = max(memory["lasting_mib"] for memory in known)
    return [
        Verdict(claims[0], goals[0], f"{scratch * 100:.1f} %", scratch <= SCRATCH_GOAL),
        Verdict(claims[1], goals[1], f"{lasting:.1f} MiB", lasting <= LASTING_GOAL_MIB),
    ]
