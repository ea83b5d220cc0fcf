"""Sizes of generations

Claim: Older generations hold fewer objects.
True: Usually the reverse: what a program keeps (modules, functions, classes, its data) ends up in the oldest one.
Expected:
    CPython 2.7, 3.6+, Rust: false
    PyPy, MicroPython, Jython: absent
"""

import gc
import json


def program():
    """A program of some size: the modules it imports and the records it keeps, some of them just made."""
    import argparse
    import decimal
    import unittest

    old = [{"number": number, "words": [number]} for number in range(20000)]
    gc.collect()
    return argparse, decimal, unittest, old, [{"number": number} for number in range(100)]


def objects_by_generation():
    try:
        return [len(gc.get_objects(generation=generation)) for generation in range(3)]
    except TypeError:
        # Before 3.8. Right after a full collection everything else is in the oldest.
        young = gc.get_count()[0]
        return [young, 0, len(gc.get_objects()) - young]


try:
    gc.get_threshold()
    running = program()
    sizes = objects_by_generation()
    facts = {"oldest_holds_more_than_the_younger_two": sizes[2] > sizes[0] + sizes[1]}
    verdict = "false" if sizes[2] > sizes[0] + sizes[1] else "true"
except (AttributeError, NotImplementedError):
    verdict, facts = "absent", {}
print(json.dumps(dict(facts, verdict=verdict)))
