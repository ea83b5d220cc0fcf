"""objgraph

Claim: objgraph shows who refers to an object, and so who keeps it alive.
True: It searches backwards from one object to a module, through what the collector says refers to what. Objects that the
    collector does not track, such as strings, it does not count.
Expected:
    CPython 3.7+, heapkeeper: true
    CPython 3.6: not run, as the release here needs Python 3.7
    CPython 2.7, PyPy, MicroPython, Jython: not run, as the packages here are for CPython 3
Packages: yes
Waits for: heap graphs (the drop-in for objgraph)
"""

import json

try:
    import objgraph
except ImportError:
    print(json.dumps({"verdict": "not installed"}))
    raise SystemExit from None


class Session:
    pass


cache = {"alice": [Session()]}

chain = objgraph.find_backref_chain(objgraph.by_type("Session")[0], objgraph.is_proper_module)
facts = {"sessions": objgraph.count("Session"), "strings": objgraph.count("str")}
facts["chain"] = [type(each).__name__ for each in chain]
verdict = "true" if facts["chain"][0] == "module" and any(each is cache for each in chain) else "false"
print(json.dumps(dict(facts, verdict=verdict)))
