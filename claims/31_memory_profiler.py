"""memory_profiler

Claim: memory_profiler measures memory line by line, for functions marked with @profile.
True: It reads the process's resident size after each line. That shows large steps; a line that fills memory freed before shows
    nothing. It has not been maintained since 2022. Our drop-in measures lines by what they allocate.
Expected:
    CPython 3.6+: partly
    heapkeeper: true
    CPython 2.7, PyPy, MicroPython, Jython: not run, as the packages here are for CPython 3
Packages: yes
"""

import json
import sys

try:
    if "heapkeeper._native" in sys.modules:
        from heapkeeper.memory_profiler import LineProfiler
    else:
        from memory_profiler import LineProfiler
except ImportError:
    print(json.dumps({"verdict": "not installed"}))
    raise SystemExit from None


def texts(number):
    return ["text %07d" % each for each in range(number)]


def work():
    large = bytearray(20000000)
    del large
    strings = texts(200000)
    strings = strings[::50]  # frees blocks, and hardly an arena
    again = texts(100000)
    return strings, again


profiler = LineProfiler(backend="psutil")
kept = profiler(work)()
((_, lines),) = profiler.code_map.items()
increments = {number - work.__code__.co_firstlineno: measured[0] for number, measured in lines if measured}

facts = {"one_piece_of_19_MiB_seen_as_MiB": round(increments[1]), "strings_of_6_MiB_seen_as_MiB": round(increments[5])}
holds = [increments[1] > 15, increments[5] > 5]
print(json.dumps(dict(facts, verdict="true" if all(holds) else "partly" if any(holds) else "false")))
