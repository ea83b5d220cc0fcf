"""Interned strings

Claim: Strings that look like identifiers, and constants of the source, are interned, so that "is" may replace "==".
True: Constants like identifiers are shared, by a detail of the implementation. A string that a program computes is equal and yet another
    object, so "is" gives the wrong answer sooner or later: never use it to compare values.
Expected:
    CPython 2.7, 3.6+, PyPy, MicroPython, Rust: partly
    Jython: false
"""

import json


def constant(source):
    """A constant, from source text of its own."""
    return eval(source)


facts = {
    "identifier_like_constants_are_one_object": constant("'user_name'") is constant("'user_name'"),
    "other_constants_are_one_object": constant("'user name, or not'") is constant("'user name, or not'"),
    "computed_strings_are_one_object": "".join(["user_", "name"]) is constant("'user_name'"),
    "computed_strings_are_equal": "".join(["user_", "name"]) == constant("'user_name'"),
}
interned = facts["identifier_like_constants_are_one_object"]
is_can_replace = facts["computed_strings_are_one_object"] and facts["other_constants_are_one_object"]
verdict = "true" if interned and is_can_replace else "partly" if interned or is_can_replace else "false"
print(json.dumps(dict(facts, verdict=verdict)))
