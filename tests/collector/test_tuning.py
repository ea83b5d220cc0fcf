"""Programs that switch the collector off, tune it or ask it get exactly what they asked for."""

import re
import sys

import pytest

TRASH = """
import gc, sys

class Node:
    pass

def trash(number):
    for _ in range(number):
        node = Node()
        node.me = node

def nodes():
    return sum(type(each) is Node for each in gc.get_objects())

gc.collect()
"""


def test_disabled_is_disabled(run):
    said = run.alike(
        TRASH
        + """
gc.disable()
before = gc.get_stats()
trash(50_000)
kept = [[number] for number in range(100_000)]
print(gc.isenabled(), nodes(), gc.get_stats() == before)
print(gc.collect(), nodes())
gc.enable()
print(gc.isenabled())
"""
    )
    assert said.splitlines()[0] == "False 50000 True"


@pytest.mark.parametrize("thresholds", [(0,), (0, 10, 10), (1000, 1000, 1000), (100, 2, 1), (50, 1, 100)])
def test_thresholds_are_respected(run, thresholds):
    run.alike(
        TRASH
        + f"""
kept, seen = [], []
gc.callbacks.append(lambda phase, info: phase == "start" and seen.append((len(kept), info["generation"])))
# For a collection without a callback CPython makes no dict, which would count.
gc.collect()
gc.freeze()
seen.clear()
gc.set_threshold(*{thresholds})
for number in range(5000):
    kept.append([number])
    trash(number % 3)
gc.set_threshold(0)
print(gc.get_threshold(), seen, gc.get_count(), nodes())
""",
        modes=run.exact_modes,
    )


def test_defaults_are_cpythons(run):
    run.alike("import gc; print(gc.get_threshold(), gc.isenabled(), gc.get_debug(), gc.garbage, gc.get_freeze_count())")


def test_counts_and_stats(run):
    """To the object, in a program that has a callback. For one that has none, CPython does not make the dict that callbacks get."""
    program = (
        TRASH
        + """
gc.disable()
gc.collect()
before = gc.get_stats()
after_collection = gc.get_count()
said = []
for generation in (0, 1, 2, 2):
    trash(3)
    count = gc.get_count()
    collected = gc.collect(generation)
    said.append((generation, count, collected, gc.get_count()))
after = gc.get_stats()
print(after_collection, said)
print([[now[key] - then[key] for key in now] for now, then in zip(after, before)])
"""
    )
    with_callback = program.replace("gc.disable()", "gc.disable(); gc.callbacks.append(lambda phase, info: None)")
    run.alike(with_callback, modes=run.exact_modes)
    answers = [run.under(mode, program).stdout.splitlines() for mode in run.modes]
    assert len({stats for _, stats in answers}) == 1
    counts = [[int(number) for number in re.findall(r"\d+", line)] for line, _ in answers]
    for expected, *found in zip(*counts, strict=True):
        assert all(abs(number - expected) <= 2 for number in found)


def test_invalid_generations(run):
    run.alike(
        TRASH
        + """
for call in (lambda: gc.collect(3), lambda: gc.collect(-1), lambda: gc.get_objects(3), lambda: gc.collect("2"), lambda: gc.set_threshold()):
    try:
        print(call())
    except Exception as error:
        print(type(error).__name__, error)
print(gc.collect(generation=1), gc.collect(True))
"""
    )


def test_freeze(run):
    said = run.alike(
        TRASH
        + """
gc.disable()
held = Node()
held.me = held
gc.freeze()
print(nodes(), gc.get_freeze_count() > 1000)
del held
print(gc.collect(), nodes())
gc.unfreeze()
print(nodes(), gc.get_freeze_count(), gc.collect() > 0, nodes())
"""
    )
    assert said == "0 True\n0 0\n1 0 True 0\n"


@pytest.mark.parametrize(
    "flags", ["DEBUG_STATS", "DEBUG_COLLECTABLE", "DEBUG_UNCOLLECTABLE", "DEBUG_SAVEALL", "DEBUG_LEAK"]
)
def test_debug_flags(run, flags):
    """The messages name addresses, counts of everything and times, which are left out here."""

    def plain(text):
        return re.sub(r"0x[0-9a-f]+|[0-9.]+s elapsed|objects in .*", "…", text)

    answers = [
        run.under(
            mode,
            TRASH
            + f"""
gc.disable()
gc.set_debug(gc.{flags})
trash(3)
print(gc.collect())
print([type(each).__name__ for each in gc.garbage], gc.get_debug())
print(gc.collect(1), gc.collect())
gc.set_debug(0)
gc.garbage.clear()
print(gc.collect(), nodes(), gc.get_debug())
""",
            quiet=False,
        )
        for mode in run.modes
    ]
    assert len({(answer.stdout, plain(answer.stderr)) for answer in answers}) == 1, answers
    assert bool(answers[0].stderr) == (flags not in ("DEBUG_SAVEALL", "DEBUG_UNCOLLECTABLE"))


@pytest.mark.parametrize("generation", [0, 1, 2])
def test_debug_stats_count_objects_of_the_program_alone(run, mode, generation):
    """Our milestones stand in both older lists by then."""
    answer = run.under(
        mode,
        f"""
import gc
kept = [[] for _ in range(200_000)]
for _ in range(3): gc.collect()
kept += [[] for _ in range(200_000)]
gc.disable()
for _ in range(5): gc.collect(0)
gc.set_debug(gc.DEBUG_STATS)
older = [len(gc.get_objects(generation)) for generation in (1, 2)]
gc.collect({generation})
older += [len(gc.get_objects(generation)) for generation in (1, 2)]
gc.collect({generation})
gc.set_debug(0)
print(older)
""",
        quiet=False,
    )
    told = [
        [int(each) for each in line.split()] for line in re.findall(r"objects in each generation: (.*)", answer.stderr)
    ]
    assert str([each for line in told[:2] for each in line[1:]]) == answer.stdout.strip()


def test_paused(run, mode):
    said = run.under(
        mode,
        TRASH
        + """
from heapkeeper import gc as collector

gc.set_threshold(10, 2, 2)
with collector.paused():
    before = sum(each["collections"] for each in gc.get_stats())
    inside = gc.isenabled()
    trash(5000)
    with collector.paused():
        trash(1000)
    trash(1000)
    print(nodes(), inside, gc.isenabled())
    print(sum(each["collections"] for each in gc.get_stats()) == before)
    print(gc.collect() > 0, nodes())
print(gc.isenabled())
trash(100)
print(nodes() < 100)
try:
    with collector.paused():
        raise ValueError
except ValueError:
    print(gc.isenabled())
gc.disable()
with collector.paused():
    print(gc.isenabled())
print(gc.isenabled())
""",
    ).stdout
    assert said.splitlines() == ["7000 False False", "True", "True 0", "True", "True", "True", "False", "False"]


def test_where_an_object_is(run):
    run.alike(
        TRASH
        + """
import heapkeeper
node = Node()
print(heapkeeper.where(node)["generation"], heapkeeper.where(node)["tracked"])
for expected in (0, 1):
    gc.collect(expected)
    print(heapkeeper.where(node)["generation"])
gc.collect()
print(heapkeeper.where(node)["generation"], heapkeeper.where(3)["generation"])
gc.freeze()
print(heapkeeper.where(node)["generation"], heapkeeper.where(node)["tracked"])
"""
    )


def test_containers_untracked_in_one_full_collection(run):
    """Tuples come before dicts, so a dict of tuples of atoms goes at once. What is trash is collected as it is, and counted."""
    said = run.alike(
        TRASH
        + """
gc.disable()
gc.collect()
table = {number: tuple([number, "text"]) for number in range(3)}
gc.collect()
print(gc.is_tracked(table), gc.is_tracked(table[0]))

def plain_trash():
    node = Node()
    node.emptied, node.me = {1: []}, node
    node.emptied.clear()
    node.pair = tuple([1, 2])

plain_trash()
print(gc.collect())
"""
    )
    assert said.splitlines()[0] == "False False" or sys.version_info >= (3, 14)


def test_untracked_containers(run):
    """A full collection leaves tuples and dicts of atoms untracked (dicts up to 3.13), and no others."""
    run.alike(
        TRASH
        + """
node = Node()
made = [(1, "a"), (1, node), ((1, 2), (3,)), ([],), {}, {"a": 1}, {"a": []}, {"a": (1, 2)}, {"a": ((),)}, dict.fromkeys("ab"), {1: {}}, {1: node}]
made += [tuple(number for number in range(3)), tuple([number] for number in range(3)), {number: (number,) for number in range(3)}]
inner = tuple(number for number in range(4))
made += [(inner, inner), {"inner": (inner,)}]
for generation in (0, 1, 2, 2):
    print(gc.collect(generation), [gc.is_tracked(each) for each in made])
made[5]["b"] = made[8]["b"] = node
print([gc.is_tracked(each) for each in made])
gc.collect()
print([gc.is_tracked(each) for each in made])
"""
    )
