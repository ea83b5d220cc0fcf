"""Our collector has objects of its own in CPython's lists, to enter by: programs see none of them, and nothing else changes."""

from subinterpreters import INTERPRETERS

# A heap that grows while young collections run, as heaps do: milestones are placed in both older generations.
GROW = """
import gc

class Node:
    def __init__(self, number):
        self.number, self.links = number, [self]

def grow(count):
    kept.extend([Node(number)] for number in range(count))

kept = []
gc.callbacks.append(lambda phase, info: None)  # With one, CPython's collections make objects as well.
gc.set_threshold(700, 10, 1_000_000)
gc.collect()
gc.collect()  # How many it takes to untrack a tuple of tuples depends on the order of the lists.
grow(120_000)
"""

LOOK = """
def look():
    found = gc.get_objects()
    by_generation = [len(gc.get_objects(generation)) for generation in range(3)]
    empty = sum(type(each) is list and not each for each in found)
    same = len({id(each) for each in found}) == len(found)
    return len(found) - by_generation[0], by_generation[1:], empty, same
"""


def test_nobody_sees_them(run):
    """Before the first full collection of a grown heap, after it, and after the second one."""
    told = run.alike(
        GROW
        + LOOK
        + """
print(look())
print(gc.collect(), look())
kept[1_000:] = kept[1_000:100_000]
grow(50_000)
print(look())
print(gc.collect(), look())
"""
    )
    # There are empty lists in any interpreter; and the oldest generation was not empty.
    assert "True" in told and "False" not in told


MORE = """
import ctypes

def more(generation):
    \"\"\"Objects in a generation's list that `gc.get_objects` does not tell of. Two words stand before each object, the first of
    which leads to the next; the list's head is passed as well.\"\"\"
    gc.disable()
    objects = gc.get_objects(generation)
    first = at = id(objects[0]) - 16
    count = 0
    while True:
        at = ctypes.c_size_t.from_address(at).value
        if at == first:
            return count - len(objects)
        count += 1
"""


def test_they_are_there(run):
    """Who follows the oldest generation's list by its links meets more objects than `gc.get_objects` tells of."""
    program = GROW + MORE + "gc.collect(1)\nprint(more(2))\n"
    assert int(run.under("cpython", program).stdout) == 0
    assert 1 <= int(run.under("heapkeeper", program).stdout) <= 64


def test_they_are_in_the_middle_generation_until_it_is_collected(run):
    """One for each collection of the youngest, as far as there are so many."""
    program = (
        GROW
        + MORE
        + """
def young(collections):
    for _ in range(collections):
        kept.append([[]])
        gc.collect(0)
    return more(1)

gc.disable()
for generation in 1, 2:
    gc.collect(generation)
    print(young(3), young(4))
    gc.collect(generation)
    print(young(1), young(30))
"""
    )
    assert run.under("cpython", program).stdout.split() == ["0"] * 8
    assert run.under("heapkeeper", program).stdout.split() == ["3", "7", "1", "16"] * 2


def test_nobody_sees_those_of_the_middle_generation(run):
    """Whoever moves or lists it, and in whatever a collection of it finds and clears."""
    run.alike(
        GROW
        + LOOK
        + """
def young(collections):
    for number in range(collections):
        kept.append([Told(number)])
        kept.append([[number]])
        gc.collect(0)

class Told(Node):
    def __del__(self):
        order.append((self.number, gc.collect(self.number % 3), bool(gc.get_objects(1))))

gc.disable()
order = []
for number in range(6):
    young(25)
    print(look())
    del kept[-20:-2]
    print(gc.collect(number % 2 + 1), order, gc.get_count(), gc.get_stats()[1:])
    order.clear()
young(3)
gc.freeze()
print(gc.get_freeze_count(), gc.get_objects(1), gc.get_objects(2))
gc.unfreeze()
young(3)
gc.set_debug(gc.DEBUG_SAVEALL)
del kept[-4:]
print(gc.collect(1), len(gc.garbage), look())
""",
        modes=("cpython", "heapkeeper"),
    )


def test_an_audit_hook_may_free_anything_while_objects_are_listed(run):
    """CPython tells audit hooks of `gc.get_objects` in the middle of it."""
    run.alike(
        GROW
        + LOOK
        + """
import sys

def hook(event, arguments):
    if event == "gc.get_objects":
        plain.clear()
        again.extend(bytes(48) for _ in range(100_000))

plain, again = [], []
plain.extend([[]] for _ in range(200_000))
gc.collect(1)
sys.addaudithook(hook)
print(look())
print(gc.collect(), look())
"""
    )


def test_frozen_objects_are_the_programs(run):
    run.alike(
        GROW
        + """
gc.freeze()
print(gc.get_freeze_count(), gc.get_objects(2))
gc.unfreeze()
grow(50_000)
gc.collect()
gc.freeze()
print(gc.get_freeze_count())
""",
        modes=("cpython", "heapkeeper"),
    )


def test_trash_is_found_in_its_order(run):
    """A little, all over a heap in which there are milestones, and a great deal.

    The order is compared once: a full collection of CPython's leaves its list in another order than one of ours.
    """
    run.alike(
        GROW
        + """
class Told(Node):
    def __del__(self):
        order.append(self.number)

def drop(numbers):
    order.clear()
    for number in numbers:
        kept[number] = None
    return gc.collect(), order[:]

order = []
for number in range(0, 120_000, 500):
    kept[number] = [Told(number)]
grow(60_000)
for number in range(1, 120_000, 400):
    kept[number] = [Told(number)]
grow(10_000)
print(drop(range(0, 120_000, 1_000)))
for numbers in range(1, 120_000, 400), range(500, 120_000, 1_000), range(2, len(kept) - 10):
    collected, finalized = drop(numbers)
    print(collected, sorted(finalized))
"""
    )


def test_cpython_goes_on_alone_and_comes_back(run):
    """Flags that leave full collections to CPython, between two of ours."""
    run.alike(
        GROW
        + LOOK
        + """
gc.collect()
grow(30_000)
gc.set_debug(gc.DEBUG_SAVEALL)
print(gc.collect(), look())
gc.set_debug(0)
grow(30_000)
print(gc.collect(), look())
"""
    )


def test_they_are_few_however_often_the_heap_is_renewed(run):
    """Each round, the oldest generation's list gets longer at its end; milestones are taken from where they stand too close."""
    run.alike(
        GROW
        + LOOK
        + """
for _ in range(6):
    grow(40_000)
    del kept[:40_000]
    print(gc.collect(), len(gc.get_objects()))
print(look())
"""
    )


def test_an_interpreter_takes_its_own_with_it(run):
    other = GROW + "gc.collect()\nprint(len(kept), flush=True)\n"
    run.alike(
        INTERPRETERS
        + GROW
        + f"""
other = create(own_gil=False)
run(other, {other!r})
low.destroy(other)
gc.collect()
print(len(gc.get_objects(2)) > 360_000, sum(type(each) is Node for each in gc.get_objects()))
"""
    )
