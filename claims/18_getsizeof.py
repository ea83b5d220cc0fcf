"""sys.getsizeof

Claim: sys.getsizeof(x) gives the size of an object.
True: Of that object alone: two lists of one element have the same size, whatever the element holds. What an object keeps alive
    takes a walk over what it refers to.
Expected:
    CPython 2.7, 3.6+: partly
    PyPy, MicroPython, Jython: absent
Waits for: heap graphs (retained sizes)
"""

import gc
import json
import sys


def deep_size(thing):
    """Bytes of an object and of everything it refers to, classes and modules excepted."""
    seen, waiting, size_bytes = set(), [thing], 0
    while waiting:
        each = waiting.pop()
        if id(each) not in seen and not isinstance(each, (type, type(sys))):
            seen.add(id(each))
            size_bytes += sys.getsizeof(each)
            waiting += gc.get_referents(each)
    return size_bytes


try:
    empty, full = [[]], [[bytes(bytearray(1000000))]]
    facts = {
        "list_of_an_empty_list": sys.getsizeof(empty),
        "list_of_a_list_of_a_million_bytes": sys.getsizeof(full),
        "the_latter_with_all_it_refers_to": deep_size(full),
    }
    if sys.getsizeof(full) >= deep_size(full):
        verdict = "true"
    else:
        verdict = "partly" if sys.getsizeof([]) < sys.getsizeof([1, 2, 3]) else "false"
except (AttributeError, TypeError):
    verdict, facts = "absent", {}
print(json.dumps(dict(facts, verdict=verdict)))
