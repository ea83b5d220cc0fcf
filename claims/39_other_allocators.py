"""Other allocators

Claim: Other allocators can be plugged in under the interpreter.
True: Since Python 3.4 through the C interface (PEP 445), since 3.6 by PYTHONMALLOC as well; before, a build had its allocator
    for good. heapkeeper is such an allocator, and comes along without a rebuild.
Expected:
    CPython 2.7: false
    CPython 3.6+, heapkeeper: true
    PyPy, MicroPython, Jython: not run, as the program looks at addresses of C objects
"""

import json
import os
import subprocess
import sys

QUESTION = """
for line in open("/proc/self/maps"):
    start, end = [int(each, 16) for each in line.split()[0].split("-")]
    if start <= thing < end:
        print("malloc" if "[heap]" in line else "arenas")
"""


def serves_small_objects(environment):
    """Who serves small objects in an interpreter that starts with these settings."""
    source = "thing = id(object())" + QUESTION
    answer = subprocess.check_output([sys.executable, "-c", source], env=dict(os.environ, **environment))
    return answer.decode().strip()


if "heapkeeper._native" in sys.modules:
    facts = {"allocator": __import__("heapkeeper").status()["allocator"]["name"]}
    verdict = "true" if facts["allocator"] == "heapkeeper" else "false"
else:
    facts = {
        "plain": serves_small_objects({}),
        "with_PYTHONMALLOC=malloc": serves_small_objects({"PYTHONMALLOC": "malloc"}),
    }
    verdict = "true" if facts["plain"] != facts["with_PYTHONMALLOC=malloc"] else "false"
print(json.dumps(dict(facts, verdict=verdict)))
