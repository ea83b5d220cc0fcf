"""Reference counts

Claim: Each object has a count, ob_refcnt, that rises with every reference to it and falls when one goes.
True: So it does in CPython, but since 3.12 some objects are immortal: the count of None, of small integers and of others no
    longer moves. PyPy, MicroPython and Jython have no counts.
Expected:
    CPython 2.7, 3.6-3.11, Rust: true
    CPython 3.12+: partly
    PyPy, MicroPython, Jython: absent
"""

import json
import sys


def movement(thing):
    """By how much the count moves with 1000 more references, and how far it comes back without them."""
    before = sys.getrefcount(thing)
    references = [thing] * 1000
    during = sys.getrefcount(thing)
    del references
    return during - before, sys.getrefcount(thing) - during


try:
    rise, fall = movement(object())
    none_rise = movement(None)[0]
    verdict = "false" if (rise, fall) != (1000, -1000) else "true" if none_rise == 1000 else "partly"
    facts = {"rise": rise, "fall": fall, "rise_of_None": none_rise}
except (AttributeError, NotImplementedError):
    verdict, facts = "absent", {}
print(json.dumps(dict(facts, verdict=verdict)))
