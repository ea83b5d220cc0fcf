"""Which types have free lists, by version: made, freed, and made again on another line, whose line does each tracemalloc name?

Where CPython takes an object from a free list it calls no allocator. It does tell its own tracemalloc, which then names the new line; from 3.13 on it
tells us too, if nobody else listens. All other types must come out alike, so that this is the whole list.
"""

import json
import subprocess
import sys

import agreement
import pytest

# How to make an object of a type.
MAKERS = {
    "float": "number / two",
    "complex": "number * 1j",
    "int": "number << 70",
    "tuple": "(number,)",
    "tuple of 19": "tuple(range(19))",
    "tuple of 21": "tuple(range(21))",
    "list": "[number]",
    "dict": "{number: two}",
    "set": "{number}",
    "frozenset": "frozenset(range(3))",
    "slice": "slice(number, two)",
    "context": "contextvars.copy_context()",
    "bound method": "plain.method",
    "builtin method": "[].append",
    "method wrapper": "plain.__str__",
    "generator": "generate()",
    "coroutine": "closed()",
    "async generator": "generate_async()",
    "async_generator_asend": "waiting.asend(None)",
    "athrow": "waiting.athrow(ValueError)",
    "cell": "types.CellType(number)",
    "function": "lambda: number",
    "partial": "functools.partial(print, number)",
    "range": "range(number)",
    "range iterator": "iter(range(number))",
    "list iterator": "iter(names)",
    "tuple iterator": "iter(pair)",
    "dict iterator": "iter(mapping)",
    "dict items": "mapping.items()",
    "enumerate": "enumerate(names)",
    "zip": "zip(names, names)",
    "map": "map(print, names)",
    "str": "'a' * (number + 3000)",
    "short str": "'%d' % (number + 1000)",
    "bytes": "b'a' * (number + 3000)",
    "bytearray": "bytearray(3)",
    "memoryview": "memoryview(data)",
    "code": "compile('1', '', 'eval')",
    "frame": "frame()",
    "traceback": "caught().__traceback__",
    "exception": "ValueError(number)",
    "KeyError": "KeyError(number)",
    "StopIteration": "StopIteration(1)",
    "MemoryError": "MemoryError()",
    "object": "object()",
    "slots": "Slots()",
    "class": "type('Made', (), {})",
    "module": "types.ModuleType('made')",
    "weak reference": "weakref.ref(plain, print)",
    "deque": "collections.deque()",
    "mapping proxy": "types.MappingProxyType(mapping)",
    "namespace": "types.SimpleNamespace()",
    "context variable": "contextvars.ContextVar('made')",
    "token": "variable.set(2)",
    "static method": "staticmethod(print)",
    "alias": "list[int]",
    "super": "super(Plain, plain)",
}

PROGRAM = """
import collections, contextvars, functools, gc, json, sys, tracemalloc, types, warnings, weakref
import heapkeeper.tracemalloc

class Plain:
    def method(self):
        pass

class Slots:
    __slots__ = ("one",)

def frame():
    return sys._getframe()

def generate():
    yield 1

async def generate_async():
    yield 1

async def coroutine():
    pass

def closed():
    made = coroutine()
    made.close()
    return made

def caught():
    try:
        raise ValueError
    except ValueError as error:
        return error

warnings.simplefilter("ignore")
plain, waiting, variable = Plain(), generate_async(), contextvars.ContextVar("variable")
number, two, names, data = 7, 2, list("abcdef"), b"123"
pair, mapping = (number, two), dict.fromkeys(names)
module = {"standard": tracemalloc, "ours": heapkeeper.tracemalloc}[sys.argv[1]]
assert heapkeeper.status()["allocator"]["name"] == {"standard": "cpython", "ours": "heapkeeper"}[sys.argv[1]]
# What a full collection leaves in free lists is held.
held = [MemoryError() for _ in range(40)]
for _ in range(2):
    module.start(1)
    module.stop()
found = {}
for name, maker in json.loads(sys.argv[2]).items():
    code = compile(f"first = {maker}\\nsecond = {maker}\\nsecond = None\\nthird = {maker}\\n", "<made>", "exec")
    names_of_code = dict(globals())
    gc.collect()
    gc.disable()
    module.start(1)
    exec(code, names_of_code)
    traceback = module.get_object_traceback(names_of_code["third"])
    module.stop()
    gc.enable()
    found[name] = traceback and [traceback[0].filename, traceback[0].lineno]
    names_of_code.clear()
print(json.dumps(found))
"""


@pytest.fixture
def lines(run):
    """The line that each type's third object is said to be from, under CPython's tracemalloc or under ours."""

    def call(side):
        settings = {"standard": "allocator=cpython,profile=off", "ours": "profile=off,gc=cpython"}[side]
        arguments = (side, json.dumps(MAKERS))
        return json.loads(run(PROGRAM, heapkeeper=settings, arguments=arguments, check_heap=False).stdout)

    return call


def test_the_list_is_whole(lines):
    standard, ours = lines("standard"), lines("ours")
    assert all(line is not None for line in ours.values()), ours
    differ = {name: (standard[name], ours[name]) for name in MAKERS if standard[name] != ours[name]}
    # A free list keeps the line of the first.
    named = {name for name, (theirs, mine) in differ.items() if theirs == ["<made>", 4] and mine == ["<made>", 2]}
    assert set(differ) == named, differ
    assert {"tuple" if name.startswith("tuple") else name for name in named} == agreement.FREE_LISTED, differ


@pytest.mark.skipif(sys.version_info < (3, 13), reason="before CPython 3.13 nobody is told of objects from free lists")
def test_an_object_from_a_free_list_is_its_last_makers():
    program = """\
import heapkeeper
from heapkeeper import tracemalloc
tracemalloc.start()
held = [[] for _ in range(200)]  # What lay in the free list before was not counted.
made = []
made = None
made = []
made = None
made = []
assert tracemalloc.get_object_traceback(made)[0].lineno == 9, tracemalloc.get_object_traceback(made)
before = tracemalloc.get_traced_memory()[0]
floats = [number / 3 for number in range(50)]
floats = None
tracemalloc.take_snapshot()
assert tracemalloc.get_traced_memory()[0] >= before, (before, tracemalloc.get_traced_memory())
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (answer.returncode, answer.stderr) == (0, "")
