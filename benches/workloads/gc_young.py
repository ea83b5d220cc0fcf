"""Young collections, and programs that allocate while the collector comes along: `python gc_young.py OBJECTS`.

Beside a heap of OBJECTS old objects, which young collections should not feel. `young` and `middle` are collections of
generation 0 and 1 that were asked for; `churn` and `growth` allocate with automatic collection on, thresholds as they are.
Figures are nanoseconds an object: looked at by the collection, or allocated. Where a collection of a generation is always one of
everything, as on PyPy, the first two are null.
"""

import gc
import random
import sys
import time

import collecting
from gc_heaps import Records

# How many objects wait in generation 0 when a young collection is asked for. CPython's threshold is 700, from 3.13 on 2000.
BATCH = 700
# Generation 1 holds ten batches, as it does by default.
BATCHES = 10
PLACES = 50_000

old = None


def young_objects(count):
    """Lists that live, and as many pairs of lists that do not: what to keep, out of three tracked objects each."""
    kept = []
    for _ in range(count // 3):
        kept.append([])
        one = []
        one.append([one])
    return kept


def young(times):
    """Nanoseconds an object of collections of generation 0."""
    spent, kept = 0.0, []
    for _ in range(times):
        kept.append(young_objects(BATCH))
        spent += collecting.timed(0)[0]
    return spent / (times * BATCH) * 1e9


def middle(times):
    """The same of generation 1, where what survived waits for it."""
    spent, kept = 0.0, []
    for _ in range(times):
        for _ in range(BATCHES):
            kept.append([[] for _ in range(BATCH)])
            gc.collect(0)
        spent += collecting.timed(1)[0]
    return spent / (times * BATCH * BATCHES) * 1e9


def churn(count):
    """Nanoseconds an allocation where new objects take the place of others at random; half of what goes is in cycles."""
    places = [None] * PLACES
    began = time.perf_counter()
    for number in range(count // 2):
        made = [number]
        made.append([made] if number % 2 else [number])
        places[random.randrange(PLACES)] = made
    return (time.perf_counter() - began) / count * 1e9


def growth(count):
    """Nanoseconds an allocation where a heap is built that stays: full collections look at all of it again and again."""
    grown = []
    began = time.perf_counter()
    for number in range(count // 2):
        grown.append((number, [number]))
    return (time.perf_counter() - began) / count * 1e9


def full_collections():
    """How many collections of generation 2 there were."""
    return gc.get_stats()[2]["collections"]


def main():
    global old
    objects = int(sys.argv[1])
    times = max(5, objects // 5_000)

    random.seed(1)
    gc.disable()
    old = Records(objects // Records.objects_each)
    gc.collect()
    gc.collect()
    generational = sys.implementation.name == "cpython"
    ns = {
        "young": young(times) if generational else None,
        "middle": middle(max(2, times // BATCHES)) if generational else None,
    }
    gc.collect()
    gc.enable()
    before = full_collections() if generational else None
    ns.update(churn=churn(2 * objects), growth=growth(2 * objects))
    collecting.finish(
        objects=objects,
        full_collections=full_collections() - before if generational else None,
        ns={name: value and collecting.significant(value) for name, value in ns.items()},
    )


if __name__ == "__main__":
    main()
