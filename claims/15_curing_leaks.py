"""gc.collect() against leaks

Claim: Calling gc.collect() cures memory leaks.
True: It frees cycles that nothing refers to. Most leaks are objects that something still refers to (a global, a cache, a
    registry), and those it must keep.
Expected:
    CPython 2.7, 3.6+, PyPy, Jython, Rust: partly
    MicroPython: not run, as it has no weak references to watch objects with
Waits for: heap graphs (leak suspects)
"""

import gc
import json
import weakref


class Session(object):
    pass


def in_cycles(watched):
    """Sessions that refer to themselves and that nobody else needs."""
    for _ in range(100):
        session = Session()
        session.itself = session
        watched.append(weakref.ref(session))


history = []


def in_a_growing_list(watched):
    """Sessions that a list of the program's remembers."""
    for _ in range(100):
        history.append(Session())
        watched.append(weakref.ref(history[-1]))


def cured(leak):
    watched = []
    leak(watched)
    gc.collect()
    gc.collect()
    return len([each for each in watched if each() is None])


facts = {"freed_of_100_in_cycles": cured(in_cycles), "freed_of_100_in_a_list": cured(in_a_growing_list)}
all_cured, some_cured = min(facts.values()) >= 99, max(facts.values()) >= 99
print(json.dumps(dict(facts, verdict="true" if all_cured else "partly" if some_cured else "false")))
