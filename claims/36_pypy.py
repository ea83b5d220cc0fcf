"""PyPy

Claim: PyPy often manages memory better than CPython.
True: It depends on the program: measure. Many objects of a kind take less in PyPy, whose own process takes several times the
    memory of CPython's, so that a small program needs more.
Expected:
    PyPy: partly
    CPython 2.7, 3.6+, MicroPython, Jython: not run, as the comparison starts from PyPy's side
Waits for: heapkeeper compare
"""

import gc
import json
import os
import platform
import subprocess
import sys


class Point(object):
    def __init__(self, number):
        self.x = self.y = number


def resident_mib():
    gc.collect()
    with open("/proc/self/status") as status:
        return [int(line.split()[1]) / 1024.0 for line in status if line.startswith("VmRSS")][0]


def measured():
    """MiB of this process at its start, and of 300,000 things of each kind."""
    sizes = {"process_at_start": resident_mib()}
    kept = []
    kinds = [("instances", Point), ("integers", lambda n: n * 1000), ("strings", str), ("lists", lambda n: [n, n])]
    for name, make in kinds:
        before = resident_mib()
        kept.append([make(number) for number in range(300000)])
        sizes[name] = resident_mib() - before
    return sizes


mine = measured()
if not hasattr(sys, "pypy_version_info"):
    print(json.dumps([platform.python_version(), mine]))
    raise SystemExit

# The same program on CPython.
version, theirs = json.loads(subprocess.check_output(["python3", os.path.abspath(__file__)]).decode())
facts = {name: "%.0f MiB (CPython %s: %.0f)" % (size, version, theirs[name]) for name, size in mine.items()}
less = [size < 0.9 * theirs[name] for name, size in mine.items()]
print(json.dumps(dict(facts, verdict="true" if all(less) else "partly" if any(less) else "false")))
