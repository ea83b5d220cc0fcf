"""Where leaks come from

Claim: Leaks come from globals, caches without a bound, lists that grow, and registries.
True: All four keep objects that the program has no more use for; the same program with a bound on its cache does not leak.
Expected:
    CPython 2.7, 3.6+, PyPy, Jython: true
    MicroPython: not run, as it has no weak references to watch objects with
Waits for: heap graphs (leak suspects)
"""

import gc
import json
import weakref


class Session(object):
    pass


last_seen = None
cache = {}
history = []
listeners = {}
bounded = {}


def keep_global(number, session):
    global last_seen
    session.previous, last_seen = last_seen, session


def keep_in_bounded_cache(number, session):
    bounded[number] = session
    bounded.pop(number - 5, None)


def left(keep):
    """How many of 100 sessions stay after their use."""
    references = []
    for number in range(100):
        session = Session()
        references.append(weakref.ref(session))
        keep(number, session)
    del session
    gc.collect()
    gc.collect()
    return len([each for each in references if each() is not None])


facts = {
    "global": left(keep_global),
    "cache": left(cache.__setitem__),
    "growing_list": left(lambda number, session: history.append(session)),
    "registry": left(lambda number, session: listeners.setdefault("on_close", []).append(session)),
    "bounded_cache": left(keep_in_bounded_cache),
}
leaks = [facts[name] == 100 for name in ("global", "cache", "growing_list", "registry")]
verdict = "true" if all(leaks) and facts["bounded_cache"] < 10 else "partly" if any(leaks) else "false"
print(json.dumps(dict(facts, verdict=verdict)))
