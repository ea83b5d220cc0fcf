"""os.fork in the middle of a collection: the parent ends it as if nothing had happened, and so does the child that has its thread.

A child without it can collect again if the fork came while callbacks ran. If it came while CPython disposed of the trash, the
child collects no more, as under plain CPython.
"""

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
        if collected == 0 and may_be_amid_disposal:
            os._exit(0)
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

may_be_amid_disposal = False
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


# Another thread forks when the collecting one calls wait().
FORKING_ELSEWHERE = (
    FORKING
    + """
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

thread = threading.Thread(target=other)
thread.start()
"""
)


@pytest.mark.parametrize("place", ["start", "stop"])
def test_fork_by_another_thread_in_a_callback(run, our_mode, place):
    """The child does not have the collecting thread. CPython's own collector would never work again there: its flag stays set."""
    said = run.under(
        our_mode,
        FORKING_ELSEWHERE
        + f"""
def deed(node):
    pass

def called(phase, info):
    if phase == {place!r}:
        wait()

gc.callbacks.append(called)
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


@pytest.mark.parametrize("generation", [0, 1, 2])
def test_fork_by_another_thread_in_a_finalizer(run, mode, generation):
    """What a finalizer kept is still marked as being collected in the child: a collection that met it would write to its links."""
    said = run.under(
        mode,
        FORKING_ELSEWHERE
        + f"""
import ctypes

found = []

def deed(node):
    if found:
        wait()
    else:
        found.append(node)

def links(node):
    header = ctypes.c_size_t * 2
    return list(header.from_address(id(node) - ctypes.sizeof(header)))

def check_child():
    try:
        assert nodes() == 50, nodes()
        before = links(found[0])
        again = [[found[0]] for _ in range(100)]
        collected = [gc.collect(0), gc.collect(1), gc.collect()]
        assert links(found[0]) == before, (before, links(found[0]))
        os._exit(sum(collected))
    except BaseException as error:
        os.write(2, repr(error).encode())
        os._exit(1)

ring(Finalized, 3)
print(gc.collect({generation}) in (0, 3))
thread.join()
print(nodes(), ended(children[0]))
kept = None
print(gc.collect() >= 50, nodes(), type(found[0]))
""",
    ).stdout
    assert said == "True\n50 0\nTrue 0 <class '__main__.Finalized'>\n"


def test_forks_from_a_program_that_collects_all_the_time(run, mode):
    """At moments nobody chose."""
    said = run.under(
        mode,
        FORKING
        + """
may_be_amid_disposal = True
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
