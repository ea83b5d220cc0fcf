"""Controls

Claim: The collector can be run, switched off and tuned: gc.collect(), gc.disable(), gc.set_threshold().
True: In CPython all three work; the first threshold is 700 up to 3.12 and 2000 since. PyPy and MicroPython have other
    settings for tuning, Jython none. On our heap they do what they do in the CPython below it, though full collections are
    ours.
Expected:
    CPython 2.7, 3.6+, heapkeeper, Rust: true
    PyPy, MicroPython, Jython: partly
"""

import gc
import json


def works(call, *arguments):
    """Whether a function of gc is there and does not refuse."""
    try:
        getattr(gc, call)(*arguments)
    except (AttributeError, NotImplementedError):
        return False
    return True


default = gc.get_threshold() if works("get_threshold") else None
facts = {"collect": works("collect"), "disable": works("disable") and not gc.isenabled()}
facts["set_threshold"] = works("set_threshold", 5000, 20, 20) and gc.get_threshold()[0] == 5000
done = [facts[name] for name in ("collect", "disable", "set_threshold")]
facts["default_thresholds"] = list(default) if default else None
verdict = "true" if all(done) else "partly" if any(done) else "false"
print(json.dumps(dict(facts, verdict=verdict)))
