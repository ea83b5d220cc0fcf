"""The width of strings

Claim: A string is stored by its widest character: one, two or four bytes for each.
True: Since CPython 3.3. Before that a build had one width for all text. PyPy and MicroPython store UTF-8, which gives each
    character its own length.
Expected:
    CPython 2.7: false
    CPython 3.6+: true
    PyPy, MicroPython, Jython: absent
"""

import json
import sys


def bytes_a_character(character):
    return (sys.getsizeof(character * 200) - sys.getsizeof(character * 100)) // 100


try:
    # Read from JSON they are text in Python 2 as well.
    characters = json.loads('["a", "\\u00e9", "\\u20ac", "\\ud83d\\ude00"]')
    widths = [bytes_a_character(character) for character in characters]
    facts = {"bytes_of_a_letter,_an_accent,_a_euro_sign,_an_emoji": widths}
    verdict = "true" if widths == [1, 1, 2, 4] else "false"
except (AttributeError, TypeError):
    verdict, facts = "absent", {}
print(json.dumps(dict(facts, verdict=verdict)))
