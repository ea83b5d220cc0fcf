"""What finalizers and the callbacks of weak references may do and see in the middle of a collection."""

import pytest

NODES = """
import gc, sys, threading, weakref

class Node:
    pass

class Finalized(Node):
    def __del__(self):
        deed(self)

def ring(kind, number):
    nodes = [kind() for _ in range(number)]
    for index, node in enumerate(nodes):
        node.next = nodes[index - 1]
        node.number = index
    return nodes[0]

def nodes(generation=None):
    return sum(type(each) is Node for each in gc.get_objects(generation))

gc.collect()
gc.disable()
"""


def test_collections_inside_a_finalizer(run):
    said = run.alike(
        NODES
        + """
def deed(node):
    ring(Node, 4)
    print("inside", [gc.collect(generation) for generation in range(3)], node.number)

ring(Finalized, 3)
print(gc.collect())
print(gc.collect())
alone = Finalized()
alone.number = 7
del alone
print(gc.collect())
"""
    )
    assert said.count("inside [0, 0, 0]") == 3


@pytest.mark.parametrize("survivors", [100, 50_000])
def test_collections_that_are_due_inside_a_finalizer(run, survivors):
    """3.12.1 begins them, where one that was due before is still to come when a full collection is asked for: young ones, and full ones where many
    objects are new. When the next full one is due depends on how many survived."""
    said = run.alike(
        NODES
        + f"""
from heapkeeper import gc as collector

def collections():
    # How many survived depends on a few tuples and dicts, which may be untracked one collection sooner or later.
    return [each["collections"] for each in gc.get_stats()], collector.stats()["long_lived"] > len(kept)

def burst():
    return [*map(list, [()] * 2000)]

def deed(node):
    for _ in range(6):
        kept.append(burst())
        kept.append([])
    print("inside", collections(), any(each is node for each in gc.get_objects()))

kept = [[] for _ in range({survivors})]
# Nested tuples are untracked from the inside, in as many collections as the order of the list takes.
for _ in range(6):
    gc.collect()
for _ in range(3):
    ring(Finalized, 3)
    gc.set_threshold(200, 1, 1)
    gc.enable()
    made = [*map(list, [()] * 2000)]; gc.collect()
    print("after it", collections())
    for _ in range(20):
        kept.append(burst())
        kept.append([])
    print("later", collections())
    gc.disable()
""",
        modes=run.exact_modes,
    )
    assert said.count("inside") == 9


def test_survivors_are_seen(run):
    said = run.alike(
        NODES
        + """
kept = ring(Node, 50)
gc.collect()
young = ring(Node, 7)

def deed(node):
    print([nodes(generation) for generation in (0, 1, 2, None)])
    print(any(each is kept for each in gc.get_objects()), any(each is node for each in gc.get_objects()))
    print(sorted(type(each).__name__ for each in gc.get_referrers(kept)), len(gc.get_referents(kept)))
    print(gc.is_tracked(kept), gc.is_tracked(node), gc.is_finalized(kept), gc.is_finalized(node))
    print(gc.get_count()[1:], gc.get_threshold(), gc.isenabled(), gc.get_freeze_count(), len(gc.garbage))

ring(Finalized, 2)
gc.collect()
print([nodes(generation) for generation in (0, 1, 2, None)])
"""
    )
    assert said.splitlines()[0] == "[0, 0, 57, 57]"


@pytest.mark.parametrize("question", ["gc.get_referrers(kept)", "gc.get_referrers(kept, node)"])
def test_referrers_among_survivors_are_found(run, question):
    """The first that a finalizer asks for: nothing else has brought the survivors back."""
    said = run.alike(
        NODES
        + f"""
kept = ring(Node, 50)
gc.collect()

def deed(node):
    print(sorted(type(each).__name__ for each in {question}))

ring(Finalized, 2)
gc.collect()
"""
    )
    # The next node's dict, or the node itself where its attributes lie in it, and the module's.
    assert said.count("dict") + said.count("Node") >= 2


def test_survivors_are_frozen(run):
    run.alike(
        NODES
        + """
kept = ring(Node, 50)
frozen = []

def deed(node):
    before = gc.get_freeze_count()
    gc.freeze()
    frozen.append(gc.get_freeze_count() - before > 50)
    print(nodes(), frozen)

ring(Finalized, 1)
print(gc.collect())
print(nodes(), gc.get_freeze_count() > 50)
gc.unfreeze()
print(nodes(), gc.get_freeze_count())
del kept
print(gc.collect())
"""
    )


def test_survivors_become_trash_and_trash_survives(run):
    """A finalizer drops what was alive, and brings back what was not: the next collection knows."""
    run.alike(
        NODES
        + """
alive = [ring(Node, 20)]
saved = []

def deed(node):
    alive.clear()
    if node.number == 1:
        saved.append(node)

ring(Finalized, 3)
print(gc.collect(), nodes(), len(saved))
print(gc.collect(), nodes())
saved.clear()
print(gc.collect(), nodes())
"""
    )


def test_tuning_inside_a_finalizer(run):
    run.alike(
        NODES
        + """
def deed(node):
    gc.enable()
    gc.set_threshold(100, 5, 5)
    gc.set_debug(gc.DEBUG_SAVEALL)

ring(Finalized, 2)
print(gc.collect())
print(gc.isenabled(), gc.get_threshold(), gc.get_debug(), len(gc.garbage))
gc.set_debug(0)
"""
    )


def test_threads_inside_a_finalizer(run):
    said = run.alike(
        NODES
        + """
kept = ring(Node, 30)
found = []

def look():
    found.append((gc.collect(), nodes(), gc.collect(1)))

def deed(node):
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()

ring(Finalized, 2)
gc.collect()
print(found)
look()
print(found[-1])
"""
    )
    assert said.splitlines()[0] == "[(0, 30, 0), (0, 30, 0)]"


def test_other_threads_work_while_a_finalizer_waits(run):
    """They make and drop survivors and trash, and ask for collections, which are refused until this one ends."""
    run.alike(
        NODES
        + """
kept = [ring(Node, 30) for _ in range(20)]
go, done = threading.Event(), threading.Event()
results = []

def other():
    go.wait()
    kept.pop()
    kept.append(ring(Node, 10))
    ring(Node, 5)
    results.append((gc.collect(), nodes()))
    done.set()

def deed(node):
    go.set()
    done.wait()

thread = threading.Thread(target=other)
thread.start()
single = Finalized()
single.me = single
del single
print(gc.collect())
thread.join()
print(results)
print(gc.collect(), nodes(), gc.collect())
"""
    )


def test_collections_from_many_threads(run, mode):
    said = run.under(
        mode,
        NODES
        + """
sys.setswitchinterval(1e-5)
gc.enable()
gc.set_threshold(50, 3, 3)
finalized = []

def deed(node):
    finalized.append(node.number)

def work():
    for _ in range(300):
        ring(Finalized, 3)
        held = ring(Node, 10)
        gc.collect()

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
gc.collect()
print(len(finalized), nodes())
""",
    ).stdout
    assert said == "3600 0\n"


def test_exceptions_inside_finalizers(run):
    run.alike(
        NODES
        + """
sys.unraisablehook = lambda caught: print("unraisable", caught.exc_type.__name__, caught.exc_value, caught.object is Finalized.__del__)

def deed(node):
    raise ValueError(node.number)

ring(Finalized, 3)
print(gc.collect(), gc.garbage)
"""
    )


def test_weak_references_around_the_trash(run):
    """In the trash, beside it, to it: only what lives is called, and nothing in the trash is reached."""
    run.alike(
        NODES
        + """
called = []

def deed(node):
    called.append(("finalized", node.number, node.own() is None, outside[node.number]() is None))

outside = []
start = ring(Finalized, 4)
each = start
for _ in range(4):
    each.own = weakref.ref(each, lambda reference: called.append("in the trash"))
    each = each.next
each = start.next
for number in range(4):
    outside.append(weakref.ref(each, lambda reference, number=number: called.append(("outside", number, reference() is None))))
    each = each.next
table = weakref.WeakValueDictionary({number: node for number, node in enumerate([start, start.next])})
finalizer = weakref.finalize(start, called.append, "finalize")
finalizer.atexit = False
del start, each, node
print(gc.collect())
print(called, len(table), finalizer.alive)
""".replace("del start, each, node", "del start, each")
    )


def test_legacy_uncollectable_objects(run):
    """gc.garbage through a type with the old tp_del, where the interpreter has one to test with."""
    run.alike(
        NODES
        + """
try:
    from _testcapi import with_tp_del
except ImportError:
    print("no _testcapi")
else:
    @with_tp_del
    class Legacy:
        def __tp_del__(self):
            print("tp_del")

    legacy = Legacy()
    legacy.me, legacy.ring = legacy, ring(Node, 5)
    del legacy
    kept = ring(Node, 9)
    infos = []
    gc.callbacks.append(lambda phase, info: infos.append(info))
    print(gc.collect(), [type(each).__name__ for each in gc.garbage], infos, nodes())
    print(gc.get_stats()[2]["uncollectable"])
    del Legacy.__tp_del__
    gc.garbage[0].me = None
    gc.garbage.clear()
    print(gc.collect(), nodes())
"""
    )
