"""Fragmentation

Claim: Pools remove fragmentation.
True: They reduce it: a freed block serves the next object of its size, so that a steady program does not grow. But one block
    in a pool keeps the pool, so scattered survivors of a peak hold far more memory than they need.
Expected:
    CPython 2.7, 3.6+, heapkeeper: partly
    PyPy, MicroPython, Jython: not run, as they have no pools
"""

import json
import sys


def resident_kib():
    """Memory of this process that lies in RAM."""
    if "heapkeeper._native" in sys.modules:
        __import__("heapkeeper").trim()
    with open("/proc/self/status") as status:
        return [int(line.split()[1]) for line in status if line.startswith("VmRSS")][0]


strings = [None] * 400000
before_kib = resident_kib()
for index in range(len(strings)):
    strings[index] = "string %07d" % index
peak_kib = resident_kib()

# A long run: every string is replaced five times over, in another order each time.
for stride in (3, 7, 11, 13, 17):
    for index in range(len(strings)):
        strings[index * stride % len(strings)] = "string %07d" % index
grown = (resident_kib() - peak_kib) / float(peak_kib - before_kib)

# The peak passes; one in fifty stays.
for index in range(len(strings)):
    if index % 50:
        strings[index] = None
held = (resident_kib() - before_kib) / float(peak_kib - before_kib)

facts = {"steady_run_grew": grown > 0.1, "one_in_50_survivors_hold_more_than_half_of_the_peak": held > 0.5}
holds = [not grown > 0.1, not held > 0.5]
print(json.dumps(dict(facts, verdict="true" if all(holds) else "partly" if any(holds) else "false")))
