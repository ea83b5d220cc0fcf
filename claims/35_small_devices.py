"""Small devices

Claim: An implementation for small devices, such as MicroPython or CircuitPython, gets by with 64 KiB of heap.
True: MicroPython does: it has no counts, and a tracing collector over a heap of fixed size, shown here on a PC. CircuitPython,
    made from it, is not at hand. CPython's smallest process takes megabytes.
Expected:
    CPython 2.7, 3.6+, PyPy, Jython: false
    MicroPython: true
Options: MicroPython -X heapsize=64k
Waits for: the fixed-size heap
"""

import gc
import json


def heap_kib():
    """The whole heap, where the collector says it; else the memory of this process that is its own."""
    if hasattr(gc, "mem_free"):
        return (gc.mem_alloc() + gc.mem_free()) / 1024.0
    with open("/proc/self/status") as status:
        return [int(line.split()[1]) for line in status if line.startswith("RssAnon")][0]


class Reading(object):
    def __init__(self, value):
        self.value = value
        self.itself = self


# Far more garbage than 64 KiB, all of it in cycles, while some data stays.
readings = {}
for number in range(5000):
    readings[number % 50] = Reading(number).value

fits = heap_kib() <= 64
facts = {"readings_kept": len(readings), "heap_of_at_most_64_KiB": fits, "heap_above_1_MiB": heap_kib() > 1024}
print(json.dumps(dict(facts, verdict="true" if fits and len(readings) == 50 else "false")))
