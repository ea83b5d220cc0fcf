"""Pausing the collector

Claim: The collector can be paused in sections where time is critical.
True: Between gc.disable() and gc.enable() no collection starts by itself, and cycles pile up meanwhile. In PyPy the minor
    collections go on. Jython's collector is Java's and cannot be paused.
Expected:
    CPython 2.7, 3.6+, PyPy, Rust: true
    Jython: absent
    MicroPython: not run, as it has no weak references to watch objects with
Waits for: the collector under CPython (paused() of a gc module of our own)
"""

import gc
import json
import weakref


class Node(object):
    pass


def collected_meanwhile():
    """Whether a cycle that nobody needs goes while the program makes a million objects."""
    node = Node()
    node.itself = node
    gc.collect()
    gone = []
    reference = weakref.ref(node, gone.append)
    del node
    kept = []
    while not gone and len(kept) < 1000000:
        kept.append([kept])
    return reference in gone


try:
    gc.disable()
    paused = collected_meanwhile()
    gc.enable()
    facts = {"collected_while_running": collected_meanwhile(), "collected_while_paused": paused}
    verdict = "true" if facts["collected_while_running"] and not paused else "false"
except NotImplementedError:
    verdict, facts = "absent", {}
print(json.dumps(dict(facts, verdict=verdict)))
