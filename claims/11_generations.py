"""Generations

Claim: The collector has three generations; objects that survive a collection move up, and young ones are examined most often.
True: So it is in CPython up to 3.13 and again from 3.14.5; in between, an incremental collector knew only young and old. The
    others show no generations to a program.
Expected:
    CPython 2.7, 3.6-3.13, 3.14.5+, Rust: true
    CPython 3.14.0-3.14.4: not run, as the program asks for generations that the incremental collector did not have
    PyPy, Jython: absent
    MicroPython: not run, as it has no weak references to watch objects with
"""

import gc
import json
import weakref


class Node(object):
    pass


def generation_after(collections):
    """The youngest generation whose collection frees a cycle that has survived so many collections, each of one more."""
    node = Node()
    node.itself = node
    reference = weakref.ref(node)
    for generation in range(collections):
        gc.collect(generation)
    del node
    for generation in range(3):
        gc.collect(generation)
        if reference() is None:
            return generation


try:
    threshold = gc.get_threshold()[0]
    facts = {"generation_after_0_1_2_collections": [generation_after(collections) for collections in range(3)]}
    if hasattr(gc, "get_stats"):
        before = [each["collections"] for each in gc.get_stats()]
        kept = [[] for _ in range(30 * threshold)]
        examined = [each["collections"] - start for each, start in zip(gc.get_stats(), before)]
        facts["young_examined_most"] = examined[0] > examined[1] > examined[2]
    moves_up = facts["generation_after_0_1_2_collections"] == [0, 1, 2]
    verdict = "true" if moves_up and facts.get("young_examined_most", True) else "false"
except (AttributeError, NotImplementedError, TypeError):
    verdict, facts = "absent", {}
print(json.dumps(dict(facts, verdict=verdict)))
