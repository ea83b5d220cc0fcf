"""Memory given back

Claim: The private heap is never given back to the operating system.
True: Arenas that become empty go back, since Python 2.5. One object that stays keeps its whole arena, so scattered
    survivors hold nearly everything. Our heap gives back pool by pool, not only whole arenas, and on request at once.
Expected:
    CPython 2.7, 3.6+, PyPy, heapkeeper, Rust: false
    MicroPython, Jython: not run, as their heap's size is an option of the virtual machine
"""

import gc
import json
import sys


def resident_mib():
    """Memory of this process that lies in RAM."""
    if "heapkeeper._native" in sys.modules:
        __import__("heapkeeper").trim()
    with open("/proc/self/status") as status:
        return [int(line.split()[1]) / 1024.0 for line in status if line.startswith("VmRSS")][0]


def given_back(keep_every):
    """The share, in quarters, of the memory of 500,000 strings that goes back when all are dropped, or all but every so many."""
    gc.collect()
    before = resident_mib()
    strings = ["string %07d" % number for number in range(500000)]
    peak = resident_mib()
    kept = strings[::keep_every] if keep_every else []
    del strings
    gc.collect()
    after = resident_mib()
    del kept
    return max(0, round(4 * (peak - after) / (peak - before)) / 4.0)


everything = given_back(keep_every=None)
scattered = given_back(keep_every=2000)
facts = {"share_back_when_all_are_dropped": everything, "share_back_when_one_in_2000_stays": scattered}
print(json.dumps(dict(facts, verdict="false" if everything > 0.5 else "true")))
