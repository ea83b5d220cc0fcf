"""Heaps of nothing but garbage: `python gc_garbage.py KIND OBJECTS [--repeats N]` makes one, times the collection, and repeats.

Automatic collection is off, so that all of it waits for the one that is timed. Every run of a kind makes the same garbage,
and says how much of it was found.
"""

import gc
import random
import sys

import collecting


class Half:
    """One of two that refer to each other."""

    __slots__ = ("other",)


def pairs(count):
    """Instances in twos, made and lost in the same order."""
    for _ in range(count // 2):
        one, other = Half(), Half()
        one.other, other.other = other, one


class Member:
    """One of a ring, with a list and a tuple of its own."""

    __slots__ = ("ahead", "behind", "notes")


def shuffled(count):
    """One ring through all of memory: three objects a member, the next member anywhere."""
    members = [Member() for _ in range(count // 3)]
    for member in members:
        member.notes = []
    random.shuffle(members)
    for number, member in enumerate(members):
        member.behind, member.ahead = members[number - 1], (number, members[number - len(members) + 1])


def dicts(count):
    """Dicts that a list refers to, and which refer to the list."""
    for number in range(count // 2):
        row = {"number": number, "name": "row"}
        row["rows"] = [row]


KINDS = {"pairs": pairs, "shuffled": shuffled, "dicts": dicts}


def main():
    words = sys.argv[1:]
    kind, count = KINDS[words[0]], int(words[1])
    repeats = int(words[words.index("--repeats") + 1]) if "--repeats" in words else 4

    random.seed(count)
    gc.disable()
    gc.collect()
    phases, collections = collecting.Phases(), []
    for _ in range(repeats):
        kind(count)
        collections.append(collecting.collection())
    collecting.finish(kind=words[0], objects=count, collections=collections, phases=phases.each(repeats))


if __name__ == "__main__":
    main()
