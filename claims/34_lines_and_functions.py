"""Lines and functions

Claim: A debugging view finds the lines and functions that consume most memory.
True: The standard library's tracemalloc finds the lines; a function's name is not among what it records. Our profiler names
    both, from samples.
Expected:
    CPython 2.7, PyPy, MicroPython, Jython: absent
    CPython 3.6+: partly
    heapkeeper: true
"""

import json
import sys


def load_rows():
    return list(map(str, range(400000)))  # the line to find


def load_names():
    return list(map(str, range(4000)))


def by_heapkeeper():
    rows, names = load_rows(), load_names()
    frame = __import__("heapkeeper").status()["profile"]["at_peak"][0]["frames"][0]
    return frame["line"], frame["function"]


def by_tracemalloc():
    import tracemalloc

    tracemalloc.start()
    rows, names = load_rows(), load_names()
    frame = tracemalloc.take_snapshot().statistics("lineno")[0].traceback[0]
    return frame.lineno, getattr(frame, "function", None)


try:
    line, function = by_heapkeeper() if "heapkeeper._native" in sys.modules else by_tracemalloc()
    found = [line == load_rows.__code__.co_firstlineno + 1, function == "load_rows"]
    verdict = "true" if all(found) else "partly" if any(found) else "false"
    facts = {"line_found": found[0], "function_named": found[1]}
except (ImportError, AttributeError):
    verdict, facts = "absent", {}
print(json.dumps(dict(facts, verdict=verdict)))
