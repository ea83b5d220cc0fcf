"""Young collections under our collector: the survivors of the middle generation are promoted before CPython looks, where that is worth it."""

import json

# Objects that lie apart: what is new takes the places of what was dropped here and there.
SCATTERED = """
import gc, json, random
import heapkeeper

def renew(count, new=lambda: [[]]):
    for number in range(count):
        kept[random.randrange(len(kept))] = new()
        if number % 200 == 0:
            gc.collect(number % 2_000 == 0)

def examined():
    return heapkeeper.gc.stats()["generations"][1]["examined"]

random.seed(1)
kept = [[[]] for _ in range(OBJECTS // 2)]
gc.disable()
gc.collect()
"""


def looked_at(run, objects, program):
    """What a program prints in JSON under our collector, in a heap of so many objects and a few more."""
    return json.loads(run.under("heapkeeper", SCATTERED.replace("OBJECTS", str(objects)) + program).stdout)


RENEWED = """
renew(10_000)
before = examined(), gc.get_stats()[1]["collections"]
renew(20_000)
print(json.dumps([examined() - before[0], gc.get_stats()[1]["collections"] - before[1]]))
"""


def test_survivors_of_a_large_heap_that_is_renewed_are_promoted(run):
    examined, collections = looked_at(run, 200_000, RENEWED)
    assert collections == 10
    assert examined >= 10 * 3_000


def test_a_small_heap_is_left_to_cpython(run):
    examined, collections = looked_at(run, 20_000, RENEWED)
    assert (examined, collections) == (0, 10)


def test_neighbours_are_left_to_cpython(run):
    """Objects in the order of their addresses, which the processor asks for by itself."""
    program = """
gc.enable()
more = [[number] for number in range(30_000)]
print(json.dumps([examined(), gc.get_stats()[1]["collections"]]))
"""
    examined, collections = looked_at(run, 200_000, program)
    assert (examined, collections >= 3) == (0, True)


def test_trash_is_left_to_cpython(run):
    """After a collection that found little else; and it comes back when there are survivors again."""
    program = """
def waste():
    cycle = [[]]
    cycle.append(cycle)
    wasted.append(cycle)
    if len(wasted) == 1_999:
        wasted.clear()
    return []

wasted = []
renew(10_000)
told = []
for new in waste, lambda: [[]]:
    renew(20_000, new)
    before = examined()
    renew(20_000, new)
    told.append(examined() - before)
print(json.dumps(told))
"""
    wasted, renewed = looked_at(run, 200_000, program)
    assert wasted == 0
    assert renewed > 10_000


ALWAYS = """
import gc, weakref
import heapkeeper

heapkeeper._native.gc_promote_always()

class Node:
    def __init__(self, *links):
        self.links = list(links)

def live(generation):
    return [type(each).__name__ for each in gc.get_objects(generation) if isinstance(each, (Node, Told))]

class Told:
    def __init__(self, name, *links):
        self.name, self.links = name, [self, *links]

    def __del__(self):
        order.append((self.name, live(0), live(1), live(2)))

order = []
gc.disable()
gc.collect()
gc.collect()
"""


def test_events_come_in_cpythons_order(run):
    """Weak references, callbacks and finalizers, in the order of the list, with everybody else where CPython puts them."""
    told = run.alike(
        ALWAYS
        + """
kept, trash, references = [], [], []
for number in range(60):
    trash.append(Told(number))
    references.append(weakref.ref(trash[-1], lambda _, number=number: order.append((f"gone {number}", live(1), live(2)))))
    kept.append(Node(kept[-1] if kept else None))
    if number % 4 == 3:
        gc.collect(0)
del trash
found = gc.collect(1)
print([each[0] for each in order], order, found, live(0), live(1), live(2), gc.get_count())
"""
    )
    names = [*(f"gone {number}" for number in range(60)), *range(60)]
    assert told.startswith(str(names))


def test_what_a_finalizer_brings_back_is_old(run):
    run.alike(
        ALWAYS
        + """
class Back(Told):
    def __del__(self):
        saved.append(self)

saved = []
for number in range(3):
    Back(number, Node())
kept = [Node() for _ in range(5)]
print(gc.collect(1), len(saved), live(0), live(1), live(2))
saved.clear()
print(gc.collect(1), gc.collect(2), len(saved), live(2))
"""
    )


def test_tuples_are_untracked(run):
    """Those that hold nothing tracked, and dicts stay as they are."""
    told = run.alike(
        ALWAYS
        + """
flat = [tuple([number, str(number)]) for number in range(50)]
deep = [tuple([number, [number]]) for number in range(50)]
dicts = [{number: None} for number in range(3)]
cycle = []
cycle.append((cycle, tuple([1, 2])))
del cycle
print([sum(map(gc.is_tracked, each)) for each in (flat, deep)])
print(gc.collect(1), [sum(map(gc.is_tracked, each)) for each in (flat, deep)], len(gc.get_objects(1)))
"""
    )
    assert told.splitlines()[0] == "[50, 50]"
    assert told.splitlines()[1].split(" ", 1)[1] == "[0, 50] 0"


def test_full_collections_come_as_if_cpython_had_promoted(run):
    """A quarter must have been added: what was promoted counts as CPython counts it."""
    program = (
        ALWAYS
        + """
kept, seen = [], []
gc.callbacks.append(lambda phase, info: phase == "stop" and info["generation"] and seen.append((info["generation"], len(kept), info["collected"])))
gc.enable()
for number in range(120_000):
    kept.append(Node((number, kept)))
    if number % 7 == 0:
        Node().links.append(Told)
        cycle = Node()
        cycle.links.append(cycle)
gc.disable()
print(seen)
"""
    )
    promoted, left_alone = (
        run.under("heapkeeper", each).stdout
        for each in (program, program.replace("gc_promote_always()", "installed()"))
    )
    assert "(2, " in promoted
    assert promoted == left_alone


def test_threads_collect(run):
    run.alike(
        ALWAYS
        + """
import threading

def collect():
    for _ in range(50):
        kept.append([Node(kept) for _ in range(100)])
        found.append(gc.collect(1))

kept, found = [], []
threads = [threading.Thread(target=collect) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sum(found), len(kept), gc.collect(1), len(live(2)), len(live(1)))
"""
    )


def test_with_a_flag_cpython_does_it_all(run):
    told = run.under(
        "heapkeeper",
        ALWAYS
        + """
gc.set_debug(gc.DEBUG_SAVEALL)
kept = [Node() for _ in range(100)]
for _ in range(10):
    Told("told")
print(gc.collect(1) == len(gc.garbage) > 0, heapkeeper.gc.stats()["generations"][1]["examined"])
gc.set_debug(0)
""",
    )
    assert told.stdout == "True 0\n"


def test_verify_compares_the_middle_generation(run):
    told = run.under(
        "verify",
        ALWAYS
        + """
before = heapkeeper.gc.stats()["verified"]["collections"]
for _ in range(5):
    Told("told")
    gc.collect(1)
print(heapkeeper.gc.stats()["verified"]["collections"] - before, len(order))
""",
    )
    assert (told.stdout, told.stderr) == ("5 5\n", "")
