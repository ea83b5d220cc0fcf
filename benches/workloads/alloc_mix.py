"""Five parts that live from allocating: the common yardstick of every allocator in docs/benchmarks.md.

Run it under the allocator in question: `python alloc_mix.py`. It prints one JSON line: the seconds of each part, their
sum, the highest resident size and the one right after the last part, and who served the allocations.
The cyclic collector is off, so that nothing but the allocator differs between two runs.

`python alloc_mix.py 0.1` runs a tenth of each part's repetitions, on data of the full size: for instruction counts,
which take long. No more is imported than the parts need: imports would count into the sizes.
"""

# ruff: noqa: UP031 (an f-string would be faster than the `%` of this workload's older figures)

import gc
import json
import os
import random
import sys
import time

SHELF_SLOTS = 200_000


def churn(share):
    """Strings of 1 to 199 characters replace each other at random places: lives of all lengths, many size classes."""
    random.seed(1)
    shelf = [None] * SHELF_SLOTS
    for _ in range(repetitions(3_000_000, share)):
        shelf[random.randrange(SHELF_SLOTS)] = "x" * random.randrange(1, 200)


def json_documents(share):
    """One document of 60,000 records is written once and read again and again: objects born, and dropped, together."""
    records = [{"id": i, "name": "n%d" % i, "v": [i, i + 1.5, str(i)]} for i in range(60_000)]
    document = json.dumps(records)
    del records
    for _ in range(repetitions(6, share)):
        json.loads(document)


def instances(share):
    """Lists of 200,000 instances, each with an attribute that is a list of one."""

    class Point:
        def __init__(self, x, y):
            self.x = x
            self.y = y

    for _ in range(repetitions(8, share)):
        [Point(i, [i]) for i in range(200_000)]


def strings(share):
    """300,000 short strings become the keys of a dict: small blocks and a table that outgrows every pool."""
    for _ in range(repetitions(10, share)):
        names = [str(i) for i in range(300_000)]
        {name: len(name) for name in names}


def nested_tuples(share):
    """Binary trees of tuples, sixteen levels deep: one size class, freed from the root."""

    def branch(depth):
        return (branch(depth - 1), branch(depth - 1)) if depth else None

    for _ in range(repetitions(14, share)):
        branch(16)


PARTS = (churn, json_documents, instances, strings, nested_tuples)


def repetitions(full, share):
    """How often a part repeats, at least once."""
    return max(1, round(full * share))


def resident_mib():
    """Resident size now, in MiB."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def peak_resident_mib():
    """Highest resident size of this program, in MiB. (That of `getrusage` outlives exec: it may be its starter's.)"""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 2**10


def served_by():
    """Who served the allocations, as this process sees it, so that no run is booked under a name it did not earn."""
    native = sys.modules.get("heapkeeper._native")
    if native is not None and native.installed():
        return "heapkeeper"
    if os.environ.get("PYTHONMALLOC", "pymalloc") != "malloc":
        return "pymalloc"
    with open("/proc/self/maps") as maps:
        loaded = maps.read()
    return next((name for name in ("mimalloc", "jemalloc") if "lib" + name in loaded), "glibc")


def huge_pages_allowed():
    """Whether the kernel may give this process huge pages."""
    with open("/proc/self/status") as status:
        return all(line.split()[1] == "1" for line in status if line.startswith("THP_enabled:"))


def main():
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0

    gc.disable()
    seconds = {}
    for part in PARTS:
        began = time.perf_counter()
        part(share)
        seconds[part.__name__] = time.perf_counter() - began
    end_rss_mib = resident_mib()

    print(
        json.dumps(
            {
                "workload": "alloc_mix",
                "python": sys.version.split()[0],
                "seconds": {name: round(value, 4) for name, value in seconds.items()},
                "total_s": round(sum(seconds.values()), 4),
                "peak_rss_mib": round(peak_resident_mib(), 1),
                "end_rss_mib": round(end_rss_mib, 1),
                "served_by": served_by(),
                "huge_pages_allowed": huge_pages_allowed(),
            }
        )
    )


if __name__ == "__main__":
    main()
