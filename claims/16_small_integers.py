"""Small integers

Claim: The integers from -5 to 256 exist once: equal ones are the same object.
True: CPython makes them when it starts, since 3.15 up to 1024. In PyPy equal integers are always "the same", in MicroPython
    those that fit a word; Jython shares -100 to 899. It is a detail: numbers are compared with ==.
Expected:
    CPython 2.7, 3.6-3.14, Rust: true
    CPython 3.15+, PyPy, MicroPython, Jython: partly
"""

import json


def exists_once(number):
    """Whether two equal integers, each computed anew, are one object."""
    return int(str(number)) is int(str(number))


SEARCHED = 5000
first = last = 0
while exists_once(first - 1) and first > -SEARCHED:
    first -= 1
while exists_once(last + 1) and last < SEARCHED:
    last += 1

verdict = "false" if first == last else "true" if (first, last) == (-5, 256) else "partly"
facts = {"first": "none found" if first == -SEARCHED else first, "last": "none found" if last == SEARCHED else last}
print(json.dumps(dict(facts, verdict=verdict)))
