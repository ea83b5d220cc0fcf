"""gc.callbacks: the program's own, complete, and with nothing of ours in it."""

TRASH = """
import gc, sys

class Node:
    pass

def trash(number):
    for _ in range(number):
        node = Node()
        node.me = node

gc.collect()
"""


def test_callbacks_get_one_start_and_one_stop_with_the_right_info(run):
    said = run.alike(
        TRASH
        + """
seen = []
gc.disable()
gc.callbacks.append(lambda phase, info: seen.append((phase, info)))
for generation in (0, 1, 2):
    trash(5)
    print(gc.collect(generation))
trash(3)
print(gc.collect())
for each in seen:
    print(each)
"""
    )
    assert said.splitlines()[-1] == "('stop', {'generation': 2, 'collected': 6, 'uncollectable': 0})".replace(
        "6", said.splitlines()[3]
    )
    assert said.count("'start'") == said.count("'stop'") == 4


def test_every_callback_gets_the_same_info_object(run):
    run.alike(
        TRASH
        + """
seen = []
for _ in range(3):
    gc.callbacks.append(lambda phase, info: seen.append(info))
gc.collect()
print(seen[0] is seen[1] is seen[2], seen[3] is seen[4] is seen[5], seen[0] is seen[3])
"""
    )


def test_list_is_the_programs(run):
    said = run.alike(
        TRASH
        + """
import heapkeeper
print(gc.callbacks, gc.callbacks is gc.callbacks, len(gc.get_referents(gc.callbacks)))
gc.collect()
print(gc.callbacks)
gc.callbacks.append(print)
gc.callbacks.clear()
gc.collect()
print(gc.callbacks)
lists = [each for each in gc.get_objects() if isinstance(each, list)]
print(sum(len(each) == 1 and type(each[0]).__name__ == "builtin_function_or_method" for each in lists))
print(sum(any(str(getattr(item, "__module__", "")).startswith("heapkeeper") for item in each if callable(item)) for each in lists))
print([type(each).__name__ for each in gc.get_referrers(gc.callbacks)])
"""
    )
    assert said.splitlines()[0] == "[] True 0"


def test_program_can_not_remove_ours(run, our_mode):
    said = run.under(
        our_mode,
        TRASH
        + """
def collections():
    return sum(each["collections"] for each in gc.get_stats())

for change in ("gc.callbacks.clear()", "gc.callbacks = None", "del gc.callbacks", "gc.callbacks = [print]"):
    exec(change)
    trash(4)
    print(gc.collect() > 0)
print(heapkeeper.status()["collector"]["mode"])
""",
    ).stdout
    assert said == "True\n" * 4 + our_mode + "\n"


def test_exception_in_a_callback_is_reported_and_the_collection_goes_on(run):
    said = run.alike(
        TRASH
        + """
def hook(caught):
    print("unraisable", caught.exc_type.__name__, caught.exc_value, (caught.err_msg or "").split(" <")[0], caught.object in gc.callbacks)

sys.unraisablehook = hook

def failing(phase, info):
    raise ValueError(phase)

def exiting(phase, info):
    raise SystemExit(9)

def interrupting(phase, info):
    raise KeyboardInterrupt

gc.callbacks.extend([failing, exiting, interrupting, 3, lambda phase, info: print("reached", phase, info["collected"])])
gc.disable()
trash(7)
print(gc.collect())
print(len(gc.callbacks))
"""
    )
    assert said.count("unraisable") == 8 and said.count("reached") == 2


def test_callbacks_change_the_list(run):
    run.alike(
        TRASH
        + """
def once(phase, info):
    print("once", phase)
    gc.callbacks.remove(once)

def growing(phase, info):
    print("growing", phase, len(gc.callbacks))
    if len(gc.callbacks) < 5:
        gc.callbacks.append(lambda phase, info: print("new", phase))

def clearing(phase, info):
    print("clearing", phase)
    if phase == "stop":
        gc.callbacks.clear()

gc.callbacks.extend([once, growing, clearing])
for _ in range(3):
    trash(2)
    gc.collect()
    print(len(gc.callbacks))
"""
    )


def test_collecting_and_looking_inside_a_callback(run):
    said = run.alike(
        TRASH
        + """
kept = [Node() for _ in range(100)]
gc.disable()

def called(phase, info):
    objects = gc.get_objects()
    print(phase, gc.collect(), gc.collect(0), sum(type(each) is Node for each in objects), gc.is_tracked(kept[0]))
    print(len([each for each in gc.get_referrers(kept[5]) if each is kept]), gc.get_count()[1:], gc.isenabled())

gc.callbacks.append(called)
trash(10)
gc.collect()
print(sum(type(each) is Node for each in gc.get_objects(2)))
"""
    )
    assert said.splitlines()[-1] == "100"


def test_callback_makes_and_drops_objects(run):
    """What is dropped at the start is trash of the same collection; what is made at the stop is of no generation but the youngest."""
    run.alike(
        TRASH
        + """
gc.disable()
held = []
for _ in range(5):
    node = Node()
    node.me = node
    held.append(node)
del node
made = []

def called(phase, info):
    if phase == "start":
        held.clear()
        trash(3)
    else:
        made.append([Node() for _ in range(4)])
        trash(2)

gc.callbacks.append(called)
print(gc.collect())
print([sum(type(each) is Node for each in gc.get_objects(generation)) for generation in range(3)])
gc.callbacks.clear()
print(gc.collect())
"""
    )


def test_gc_is_imported_again(run):
    """A module made anew must show the program's list, not the private one."""
    said = run.alike(
        TRASH
        + """
old = gc.callbacks
old.append(lambda phase, info: print(phase, info["generation"]))
del sys.modules["gc"]
import gc as again
print(again is gc, again.callbacks is old, again.garbage is gc.garbage, len(again.callbacks))
again.disable()
trash(3)
print(again.collect() > 0)
sys.modules["gc"] = gc
import importlib
importlib.reload(gc)
print(gc.callbacks is old, len(gc.callbacks))
gc.collect()
"""
    )
    assert said.splitlines()[0] == "False True True 1"


def test_callbacks_of_automatic_collections(run):
    """Which generation is collected when, to the object."""
    said = run.alike(
        TRASH
        + """
kept, seen = [], []

def called(phase, info):
    if phase == "start":
        seen.append((len(kept), info["generation"]))

gc.callbacks.append(called)
# For a collection without a callback CPython makes no dict, which would count.
gc.collect()
gc.freeze()
seen.clear()
before = gc.get_stats()
gc.set_threshold(70, 3, 2)
for number in range(30_000):
    kept.append([number])
gc.callbacks.clear()
print(seen)
print([[now[key] - then[key] for key in now] for now, then in zip(gc.get_stats(), before)])
""",
        modes=run.exact_modes,
    )
    assert said.count(", 2)") > 5 and said.count(", 1)") > 50
