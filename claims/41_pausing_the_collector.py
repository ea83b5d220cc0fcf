"""Pausing the collector

Claim: The collector can be paused in sections where time is critical.
True: Between gc.disable() and gc.enable() no collection starts by itself, and cycles pile up meanwhile. In PyPy the minor
    collections go on. Jython's collector is Java's and cannot be paused. On our heap heapkeeper.gc.paused() is a context that
    does it.
Expected:
    CPython 2.7, 3.6+, PyPy, heapkeeper, Rust: true
    Jython: absent
    MicroPython: not run, as it has no weak references to watch objects with
"""

import gc
import json
import sys
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
    if "heapkeeper._native" in sys.modules:
        import heapkeeper.gc

        with heapkeeper.gc.paused():
            paused = collected_meanwhile()
    else:
        gc.disable()
        paused = collected_meanwhile()
        gc.enable()
    facts = {"collected_while_running": collected_meanwhile(), "collected_while_paused": paused}
    verdict = "true" if facts["collected_while_running"] and not paused else "false"
except NotImplementedError:
    verdict, facts = "absent", {}
print(json.dumps(dict(facts, verdict=verdict)))
