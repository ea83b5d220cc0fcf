"""os.fork in the middle of a collection: the parent ends it as if nothing had happened, the child can collect again."""

import pytest

FORKING = """
import gc, os, sys, threading, warnings

warnings.simplefilter("ignore")

class Node:
    pass

class Finalized(Node):
    def __del__(self):
        deed(self)

def ring(kind, number):
    nodes = [kind() for _ in range(number)]
    for index, node in enumerate(nodes):
        node.next = nodes[index - 1]
    return nodes[0]

def nodes():
    return sum(type(each) is Node for each in gc.get_objects())

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def check_child():
    # What survived in the parent is whole, is seen, and can be collected when it is dropped; so can what the child makes.
    global kept
    try:
        assert nodes() == 50, nodes()
        kept = None
        ring(Node, 10)
        collected = gc.collect()
        assert nodes() == 0, (nodes(), collected)
        gc.set_threshold(50, 2, 2)
        gc.enable()
        for _ in range(5000):
            ring(Node, 3)
        assert nodes() < 3000, nodes()
        os._exit(0)
    except BaseException as error:
        os.write(2, repr(error).encode())
        os._exit(1)

gc.collect()
gc.disable()
kept = ring(Node, 50)
"""


def test_fork_in_a_finalizer(run, mode):
    """The child has the collecting thread, and ends the collection itself."""
    said = run.under(
        mode,
        FORKING
        + """
children = []

def deed(node):
    if not children:
        children.append(os.fork())

ring(Finalized, 3)
collected = gc.collect()
if children == [0]:
    check_child()
print(collected > 0, nodes(), ended(children[0]))
kept = None
print(gc.collect() >= 50, nodes())
""",
    ).stdout
    assert said == "True 50 0\nTrue 0\n"


@pytest.mark.parametrize("phase", ["start", "stop"])
def test_fork_in_a_callback(run, mode, phase):
    said = run.under(
        mode,
        FORKING
        + f"""
children = []

def called(now, info):
    if now == {phase!r} and not children:
        children.append(os.fork())

deed = print
gc.callbacks.append(called)
ring(Node, 3)
collected = gc.collect()
gc.callbacks.clear()
if children == [0]:
    check_child()
print(collected > 0, nodes(), ended(children[0]))
kept = None
print(gc.collect() >= 50, nodes())
""",
    ).stdout
    assert said == "True 50 0\nTrue 0\n"


@pytest.mark.parametrize("place", ["finalizer", "start", "stop"])
def test_fork_by_another_thread(run, our_mode, place):
    """The child does not have the collecting thread. CPython's own collector would never work again there: its flag stays set."""
    said = run.under(
        our_mode,
        FORKING
        + f"""
place = {place!r}
go, done = threading.Event(), threading.Event()
children = []

def other():
    go.wait()
    pid = os.fork()
    if pid == 0:
        check_child()
    children.append(pid)
    done.set()

def wait():
    if not go.is_set():
        go.set()
        done.wait()

def deed(node):
    if place == "finalizer":
        wait()

def called(phase, info):
    if phase == place:
        wait()

gc.callbacks.append(called)
thread = threading.Thread(target=other)
thread.start()
ring(Finalized, 3)
print(gc.collect() > 0)
thread.join()
gc.callbacks.clear()
print(nodes(), ended(children[0]))
kept = None
print(gc.collect() >= 50, nodes())
""",
    ).stdout
    assert said == "True\n50 0\nTrue 0\n"


def test_forks_from_a_program_that_collects_all_the_time(run, mode):
    """At moments nobody chose; under CPython's own collector a child may have none that works, so there nothing is asked of it."""
    said = run.under(
        mode,
        FORKING
        + f"""
mode = {mode!r}
sys.setswitchinterval(1e-5)
stop = threading.Event()

def deed(node):
    node.number = 1

def collecting():
    while not stop.is_set():
        ring(Finalized, 5)
        gc.collect()

threads = [threading.Thread(target=collecting) for _ in range(2)]
for thread in threads:
    thread.start()
statuses = []
for _ in range(60):
    pid = os.fork()
    if pid == 0:
        if mode == "cpython":
            os._exit(0)
        check_child()
    statuses.append(ended(pid))
stop.set()
for thread in threads:
    thread.join()
print(set(statuses), nodes())
""",
    ).stdout
    assert said == "{0} 50\n"


def test_children_of_children(run, our_mode):
    said = run.under(
        our_mode,
        FORKING
        + """
depth = 0

def deed(node):
    global depth
    if depth < 4:
        depth += 1
        pid = os.fork()
        if pid:
            status = ended(pid)
            gc.collect()
            os._exit(status)

ring(Finalized, 6)
gc.collect()
assert depth == 4
check_child()
""",
    )
    assert said.stdout == ""
