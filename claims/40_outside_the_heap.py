"""Outside the heap

Claim: Machine learning presses on Python's memory manager.
True: Its objects do. The data of numpy's arrays, or of any C library, lies outside CPython's object heap, where no view of the
    heap alone shows it. Ours holds numpy's data as well, line by line. What other libraries take for themselves stands in our
    reports as one figure, which does not say yet which line it belongs to.
Expected:
    CPython 3.6+: partly
    heapkeeper: true
    CPython 2.7, PyPy, MicroPython, Jython: not run, as nothing there says what the object heap holds
Packages: yes
Waits for: tracking of memory outside our heap
"""

import json
import mmap
import sys
import tracemalloc

try:
    import numpy
except Exception:  # not installed, or for another version
    numpy = None

SIZE_BYTES = 16000000


def heap_bytes():
    """What the object heap holds: our heap's own figure, or what tracemalloc saw CPython's allocators hand out."""
    if "heapkeeper._native" in sys.modules:
        return __import__("heapkeeper").status()["heap"]["live_bytes"]
    only_objects = tracemalloc.take_snapshot().filter_traces([tracemalloc.DomainFilter(True, 0)])
    return sum(trace.size for trace in only_objects.traces)


def in_heap(make, bytes_made):
    """Whether the heap grows by at least half of what is made."""
    before = heap_bytes()
    made = make()
    return heap_bytes() - before > bytes_made / 2


def array():
    return numpy.ones(SIZE_BYTES // 8) if numpy else mmap.mmap(-1, SIZE_BYTES)


if "heapkeeper._native" not in sys.modules:
    tracemalloc.start()
facts = {
    "floats_of_a_list_in_the_heap": in_heap(lambda: [float(n) for n in range(100000)], 100000 * (24 + 8)),
    "floats_of_an_array_in_the_heap": in_heap(array, SIZE_BYTES),
    "array_made_by": "numpy" if numpy else "mmap",
}
inside = [facts["floats_of_a_list_in_the_heap"], facts["floats_of_an_array_in_the_heap"]]
print(json.dumps(dict(facts, verdict="true" if all(inside) else "partly" if any(inside) else "false")))
