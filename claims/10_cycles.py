"""Cycles

Claim: Reference counts cannot free objects that refer to each other; a collector finds them by walking the graph.
True: In CPython a chain goes when its last reference does, and a cycle stays until a collection. PyPy and Jython have no
    counts: there both wait for the collector.
Expected:
    CPython 2.7, 3.6+, Rust: true
    PyPy, Jython: absent
    MicroPython: not run, as it has no weak references to watch objects with
"""

import gc
import json
import weakref


class Node(object):
    other = None


def drop_two(closed):
    """Two objects, the first referring to the second, and back if closed; only weak references to them stay."""
    first, second = Node(), Node()
    first.other = second
    if closed:
        second.other = first
    return [weakref.ref(first), weakref.ref(second)]


def alive(references):
    return len([each for each in references if each() is not None])


chain, cycle = drop_two(closed=False), drop_two(closed=True)
facts = {"chain_alive": alive(chain), "cycle_alive": alive(cycle)}
gc.collect()
gc.collect()
facts["cycle_alive_after_collection"] = alive(cycle)

if facts["chain_alive"]:
    verdict = "absent"  # nothing is freed by counts
else:
    verdict = "true" if facts["cycle_alive"] == 2 and not facts["cycle_alive_after_collection"] else "false"
print(json.dumps(dict(facts, verdict=verdict)))
