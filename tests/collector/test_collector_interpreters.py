"""Subinterpreters: each has its own generations, callbacks, counts and finalizers, with the shared GIL and with one of its own."""

import sys

import differential
import pytest
from subinterpreters import INTERPRETERS

own_gil_only = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="an interpreter has a GIL of its own from CPython 3.12 on"
)
each_kind = pytest.mark.parametrize("own_gil", [False, pytest.param(True, marks=own_gil_only)])

# What an interpreter does; it prints to the descriptor, as each has buffers of its own.
WORK = """
import gc, os, sys, weakref

class Node:
    pass

class Finalized(Node):
    def __del__(self):
        events.append("finalized")
        gc.collect()

def ring(kind, number):
    nodes = [kind() for _ in range(number)]
    for index, node in enumerate(nodes):
        node.next = nodes[index - 1]
    return nodes[0]

def nodes():
    return sum(isinstance(each, Node) for each in gc.get_objects())

events = []
gc.collect()
gc.callbacks.append(lambda phase, info: events.append((phase, info["generation"])))
kept = ring(Node, 30)
reference = weakref.ref(ring(Finalized, 3), lambda reference: events.append("called back"))
gc.disable()
collected = gc.collect()
assert nodes() == 30, nodes()
gc.enable()
gc.set_threshold(40, 3, 3)
for _ in range(300):
    ring(Node, 3)
gc.set_threshold(700, 10, 10)
gc.collect()
before = gc.get_stats()
assert nodes() == 30, nodes()
os.write(1, f"{collected} {len(gc.callbacks)} {events}\\n".encode())
"""


@each_kind
def test_each_interpreter_collects_its_own(run, own_gil):
    said = run.alike(
        INTERPRETERS
        + f"""
WORK = {WORK!r}
interpreters = [create({own_gil}) for _ in range(3)]
for interpreter in interpreters:
    run(interpreter, WORK)
exec(WORK)
for interpreter in interpreters:
    run(interpreter, "assert nodes() == 30; kept = None; assert gc.collect() >= 30; assert nodes() == 0")
    low.destroy(interpreter)
print(len(gc.callbacks), gc.collect() >= 0)
"""
    )
    assert said.count("'finalized', 'finalized', 'finalized'") == 4


@own_gil_only
def test_interpreters_collect_at_the_same_time(run, mode):
    said = run.under(
        mode,
        INTERPRETERS
        + f"""
WORK = {WORK!r}.replace("os.write", "(lambda *_: None)")
done = []

def work():
    for _ in range(4):
        interpreter = create(True)
        for _ in range(3):
            run(interpreter, WORK)
        low.destroy(interpreter)
    done.append(True)

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
exec(WORK)
for thread in threads:
    thread.join()
print(len(done))
""",
    ).stdout
    assert said == "4\n"


@each_kind
def test_interpreters_end_with_cycles_and_finalizers(run, own_gil):
    """Destroyed, and alive when the process ends."""
    run.alike(
        INTERPRETERS
        + f"""
CODE = '''
import gc, os
class Finalized:
    def __init__(self):
        self.me, self.write = self, os.write
    def __del__(self):
        self.write(1, b"finalized\\\\n")
Finalized()
gc.collect()
kept = Finalized()
gc.callbacks.append(lambda phase, info: None)
'''
first, second = create({own_gil}), create({own_gil})
run(first, CODE)
run(second, CODE)
low.destroy(first)
print("end", flush=True)
low.destroy(second)
""",
    )


@each_kind
def test_programs_log_the_same_inside_an_interpreter(run, own_gil):
    """Generated programs, as in differential.py, played in a subinterpreter while the main one has objects of its own."""
    said = run.alike(
        INTERPRETERS
        + f"""
kept = [[number] for number in range(1000)]
interpreter = create({own_gil})
run(interpreter, '''
import hashlib, os, sys, warnings
sys.path.insert(0, {str(differential.HERE)!r})
import kinds, player, programs, world
warnings.simplefilter("ignore")
sys.setswitchinterval(1000)
for seed in range(60):
    # A thread of a subinterpreter ends when it likes.
    operations = [each for each in programs.program(seed) if each[1] != "thread"]
    kinds.LOG.clear()
    world.World([], seed % 2).play(operations)
    os.write(1, f"{{seed}} {{hashlib.sha256(chr(10).join(player.in_any_order(kinds.LOG)).encode()).hexdigest()}} {{len(kinds.LOG)}}\\\\n".encode())
''')
""",
        modes=run.exact_modes,
        environment={"PYTHONHASHSEED": "0"},
    )
    assert len(said.splitlines()) == 60
