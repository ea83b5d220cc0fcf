"""Generators

Claim: A generator needs less memory than a list of what it yields.
True: A generator holds its frame and one item at a time; the list holds them all. A list made from it costs the same again.
Expected:
    CPython 2.7, 3.6+, PyPy, MicroPython: true
    Jython: not run, as a few objects do not show in the Java virtual machine's memory
"""

import gc
import json


def used_kib():
    """Memory of this process that lies in RAM; what is allocated, where the collector says it."""
    if hasattr(gc, "mem_alloc"):
        return gc.mem_alloc() // 1024
    with open("/proc/self/status") as status:
        return [int(line.split()[1]) for line in status if line.startswith("VmRSS")][0]


COUNT = 20000 if hasattr(gc, "mem_alloc") else 1000000


def held_kib(make):
    """What is held half-way through the numbers."""
    gc.collect()
    before = used_kib()
    numbers = make()
    for number in numbers:
        if number == COUNT // 2:
            gc.collect()
            return used_kib() - before


def generated():
    number = 0
    while number < COUNT:
        yield number
        number += 1


generator_kib = held_kib(generated)
list_kib = held_kib(lambda: list(generated()))
facts = {"list_needs_10_times_as_much": list_kib > 10 * max(generator_kib, 1)}
verdict = "true" if generator_kib < list_kib else "false"
print(json.dumps(dict(facts, verdict=verdict)))
