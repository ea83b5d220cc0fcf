"""The arithmetic of the collector's benchmark: from the runs of a case to nanoseconds, milliseconds and shares, and the ratios.

A case is a collector, or a collector in one setting. Its figures are columns: a value for each round that it ran in. A time is
the median over the rounds; where a round repeats a collection, its fastest counts. Every ratio of times reads "times as fast
as CPython's own collector", on the same interpreter and in the same run: above 1 heapkeeper's is faster.
"""

import statistics

OWN, BASE, ON_HEAP = "heapkeeper", "cpython", "cpython-heap"
# Our collector whose search runs in a child: where collections begin by themselves.
BESIDE = f"{OWN} background"
# Heap → what it is.
HEAPS = {
    "recycled": "three times, half of the records made way for new ones, as in caches and sessions",
    "shuffled": "the records are referred to in random order",
    "trees": "a binary tree and a chain of dicts, deep and narrow",
    "pointers": "eight references an object, to anywhere",
    "fresh": "records in the order in which they were made",
}
GARBAGE = {"pairs": "pairs of instances", "shuffled": "one ring through all of memory", "dicts": "dicts and lists"}
YOUNG = {
    "young": "a collection of generation 0",
    "middle": "a collection of generation 1",
    "churn": "an allocation, where objects come and go",
    "growth": "an allocation, where a heap grows",
}
# What a figure may differ by for no reason.
NOISE = 0.03
# Events of a heap's life → the column with their seconds.
EVENTS = {"again": "again_s", "first": "first_s", "replaced": "replaced_s"}


def case(key, settled):
    """A collector on a heap in one of the two orders."""
    return f"{key} settled" if settled else key


def values(columns, event, repeated=min):
    """Nanoseconds an object of an event, a value a round; of `repeated` collections the fastest."""
    rounds = zip(columns[EVENTS[event]], columns["objects"], strict=True)
    return [(repeated(spent) if isinstance(spent, list) else spent) / objects * 1e9 for spent, objects in rounds]


def nanoseconds(result, case, event="again", figure=statistics.median):
    """What an event costs in a case; null where that did not run."""
    columns = result["cases"].get(case)
    return figure(values(columns, event)) if columns else None


def milliseconds(result, case):
    """How long a repeated collection takes; null where the case did not run."""
    columns = result["cases"].get(case)
    return statistics.median(map(min, columns["again_s"])) * 1000 if columns else None


def ratio(base, own):
    """Times as fast; null where one of the two has no figure."""
    return base / own if base and own else None


def speed(result, own, base, event="again", figure=statistics.median):
    """How many times as fast one case is as another."""
    return ratio(nanoseconds(result, base, event, figure), nanoseconds(result, own, event, figure))


def median(result, case, name):
    """The median of a column; null where the case did not run or does not know."""
    column = [value for value in result["cases"].get(case, {}).get(name, []) if value is not None]
    return statistics.median(column) if column else None


def memory(result, case):
    """Bytes of the tracked objects, and MiB that collecting them takes at most and that last; null where it is not known."""
    found = {name: median(result, case, name) for name in ("tracked_bytes", "scratch_mib", "lasting_mib")}
    return None if None in found.values() else found


def scratch_share(memory):
    """The collector's memory as a share of the objects'."""
    return memory["scratch_mib"] * 2**20 / memory["tracked_bytes"]


def phases(result, case, event="again"):
    """Nanoseconds an object of each phase of an event, on average over repeated collections, and of what no phase claims.

    Empty where the collector does not say.
    """
    columns = result["cases"].get(case, {})
    rounds = list(zip(columns.get(f"{event}_phases", []), columns.get("objects", []), strict=True))
    names = dict.fromkeys(name for told, _ in rounds for name in told)
    known = {name: statistics.median(told.get(name, 0) / count * 1e9 for told, count in rounds) for name in names}
    if not known:
        return {}
    whole = statistics.median(values(columns, event, statistics.fmean))
    return {**known, "other": max(whole - sum(known.values()), 0.0), "in all": whole}


def by_size(results):
    """Number of objects → heap → result, smallest first."""
    sized = {}
    for name, result in results.items():
        heap, _, size = name.partition(" ")
        if size:
            sized.setdefault(int(size), {})[heap] = result
    return {size: {heap: sized[size][heap] for heap in HEAPS if heap in sized[size]} for size in sorted(sized)}


def rows_of(heaps):
    """Heap, whether it is settled, label, result: the rows of a table about heaps."""
    for heap, result in heaps.items():
        for settled in (False, True):
            if any(result["cases"].get(case(key, settled)) for key in (BASE, ON_HEAP, OWN)):
                yield heap, settled, f"{heap}, settled" if settled else heap, result


def garbage_ratios(result):
    """Kind of garbage → times as fast."""
    if not result:
        return {}
    return {kind: speed(result, f"{OWN} {kind}", f"{BASE} {kind}") for kind in GARBAGE}


def young_ratios(result):
    """Kind of work → times as fast."""
    if not result:
        return {}
    pairs = {name: [median(result, key, name) for key in (BASE, OWN)] for name in YOUNG}
    return {name: ratio(*pair) for name, pair in pairs.items()}
