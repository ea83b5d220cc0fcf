"""The collector comes in the middle of a program, and along to the processes that it starts."""

import pytest

HEAP = """
import gc, heapkeeper, sys, weakref

class Node:
    pass

class Finalized(Node):
    def __del__(self):
        finalized.append(self.number)

def ring(kind, number):
    nodes = [kind() for _ in range(number)]
    for index, node in enumerate(nodes):
        node.next, node.number = nodes[index - 1], index
    return nodes[0]

def nodes():
    return sum(isinstance(each, Node) for each in gc.get_objects())

finalized = []
gc.collect()
gc.disable()
"""


def test_heap_that_was_built_before(run, mode):
    """Objects that CPython's allocator made, in cycles with ours, live and die under the collector."""
    said = run(
        HEAP
        + f"""
old = [ring(Node, 10) for _ in range(2000)]
old_trash = [ring(Finalized, 5) for _ in range(100)]
collect = gc.collect
seen = []
gc.callbacks.append(lambda phase, info: seen.append((phase, info["generation"])))
heapkeeper.install(gc={mode!r}, profile="off")
print(heapkeeper.status()["collector"]["mode"], gc.callbacks == [gc.callbacks[0]])
new = [ring(Node, 10) for _ in range(2000)]
for index in range(1000):
    old[index].new, new[index].old = new[index], old[index]
references = [weakref.ref(each) for each in old + new]
gc.collect()
print(gc.collect(), nodes())
del old_trash
print(collect() > 0, len(finalized), nodes())
del old[:1000]
print(gc.collect(), nodes())
del new[:1000]
print(gc.collect() >= 20_000, nodes(), sum(each() is None for each in references))
del old, new
print(gc.collect() > 0, nodes(), seen == [("start", 2), ("stop", 2)] * (len(seen) // 2))
""",
        heapkeeper=None,
    ).stdout
    assert said == f"{mode} True\n0 40500\nTrue 500 40000\n0 40000\nTrue 20000 2000\nTrue 0 True\n"


def test_installing_inside_a_finalizer_and_a_callback(run, our_mode):
    said = run(
        HEAP
        + f"""
class Installing:
    def __del__(self):
        heapkeeper.install(gc={our_mode!r})
        print("installed", gc.collect())

kept = ring(Node, 100)
installing = Installing()
installing.me = installing
del installing
ring(Node, 10)
print(gc.collect() > 0, nodes())
ring(Node, 10)
print(heapkeeper.status()["collector"]["mode"], gc.collect() > 0, nodes())
""",
        heapkeeper=None,
    ).stdout
    assert said == f"installed 0\nTrue 100\n{our_mode} True 100\n"


def test_installing_while_threads_collect(run, our_mode):
    said = run(
        HEAP
        + f"""
import threading
sys.setswitchinterval(1e-5)
stop = threading.Event()

def work():
    while not stop.is_set():
        ring(Finalized, 3)
        gc.collect()

kept = ring(Node, 100)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
while len(finalized) < 100:
    pass
heapkeeper.install(gc={our_mode!r})
now = len(finalized)
while len(finalized) < now + 300:
    pass
stop.set()
for thread in threads:
    thread.join()
gc.collect()
print(nodes(), kept.next.next is not None)
""",
        heapkeeper=None,
    ).stdout
    assert said == "100 True\n"


def test_installing_with_everything_frozen_or_disabled(run, our_mode):
    said = run(
        HEAP
        + f"""
kept = ring(Node, 100)
gc.freeze()
gc.set_threshold(11, 12, 13)
heapkeeper.install(gc={our_mode!r})
print(gc.isenabled(), gc.get_threshold(), gc.get_freeze_count() > 100, nodes())
ring(Node, 5)
print(gc.collect() > 0, nodes())
gc.unfreeze()
print(nodes())
del kept
print(gc.collect() >= 100, nodes())
""",
        heapkeeper=None,
    ).stdout
    assert said == "False (11, 12, 13) True 0\nTrue 0\n100\nTrue 0\n"


def test_installing_again_changes_what_it_names(run):
    """A library that installs heapkeeper does not undo what was said on the command line."""
    program = """
import gc, heapkeeper
gc.disable()
gc.callbacks.append(lambda phase, info: print(phase))
for gc_mode in {modes}:
    print(heapkeeper.install() if gc_mode is None else heapkeeper.install(gc=gc_mode), heapkeeper.gc.mode())
gc.collect()
"""
    said = ["cpython", "cpython", "verify", "verify", "heapkeeper", "heapkeeper"]
    for mode in run.modes:
        answer = run.under(mode, program.format(modes=[None, "cpython", None, "verify", None, "heapkeeper", None]))
        assert answer.stdout.splitlines() == [f"True {now}" for now in (mode, *said)] + ["start", "stop"]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_have_the_collector_too(run, our_mode, method, tmp_path):
    path = tmp_path / "pool.py"
    path.write_text(
        f"""
import gc, multiprocessing
from concurrent.futures import ProcessPoolExecutor

class Node:
    pass

def work(number):
    import heapkeeper

    gc.collect()
    for _ in range(number):
        node = Node()
        node.me = node
    del node
    return heapkeeper.status()["collector"]["mode"], gc.collect() >= number, sum(type(each) is Node for each in gc.get_objects())

if __name__ == "__main__":
    kept = [Node() for _ in range(10)]
    context = multiprocessing.get_context({method!r})
    with context.Pool(2) as pool:
        print(set(pool.map(work, range(10, 30))))
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        print(set(pool.map(work, range(10, 30))))
"""
    )
    launch = "import os, sys; os.execv(sys.executable, [sys.executable, '-W', 'ignore', sys.argv[1]])"
    said = run.under(our_mode, launch, arguments=(str(path),)).stdout
    survivors = 10 if method == "fork" else 0
    assert said == f"{{({our_mode!r}, True, {survivors})}}\n" * 2


@pytest.mark.parametrize("flags", [("-X", "importtime"), ("-I",), ("-E",), ("-X", "dev"), ("-O",), ("-s",)])
def test_interpreter_flags_do_not_matter(run, our_mode, flags):
    said = run.under(
        our_mode,
        "import gc\ncycle = []\ncycle.append(cycle)\ndel cycle\nprint(gc.collect() > 0)",
        flags=flags,
        quiet=False,
    ).stdout
    assert said == "True\n"
