"""tracemalloc

Claim: tracemalloc follows allocations to the lines that made them.
True: It does, and has been part of the standard library since Python 3.4; our heap has one of its own with the same interface.
    PyPy, MicroPython and Python 2 have none.
Expected:
    CPython 2.7, PyPy, MicroPython, Jython: absent
    CPython 3.6+, heapkeeper: true
"""

import json
import sys

try:
    if "heapkeeper._native" in sys.modules:
        from heapkeeper import tracemalloc
    else:
        import tracemalloc

    tracemalloc.start()
    small = [str(number) for number in range(100)]
    large = [str(number) for number in range(100000)]  # the line that must come first
    top = tracemalloc.take_snapshot().statistics("lineno")[0]
    with open(top.traceback[0].filename) as source:
        line = source.readlines()[top.traceback[0].lineno - 1]
    facts = {"line_named": line.partition("#")[0].strip(), "MiB": round(top.size / 2.0**20)}
    verdict = "true" if "must come first" in line else "false"
except (ImportError, AttributeError):
    verdict, facts = "absent", {}
print(json.dumps(dict(facts, verdict=verdict)))
