"""Generated programs for exact counts: a seed is the text of a program, and the same text in every process.

A program works on `v`, a list of slots that is there before counting starts. Each kind of slot holds one type, so that any statement can follow any
other. What is not stored in a slot is freed again. Each statement stands on a line of its own and says of which free-listed types it makes objects:
lines that make none must agree with tracemalloc by themselves.
"""

import random
import re

# Kind of slot: its letter in the templates, how many there are, and what they hold at first.
KINDS = {
    "S": (4, '"s" * 40'),
    "B": (3, 'b"b" * 40'),
    "A": (3, "bytearray(40)"),
    "L": (4, "list(range(20))"),
    "D": (4, "dict.fromkeys(range(5))"),
    "E": (3, "set(range(9))"),
    "N": (3, "10**30"),
    "P": (3, "Plain()"),
    "T": (2, "Slotted(1)"),
    "G": (3, "iter(())"),
    "Q": (2, "deque()"),
    "X": (6, "None"),
}

# Template, and the free-listed types of which it makes objects, in any version. Capitals in braces are slots of that kind, with = the one drawn last;
# n, m and k are numbers up to 2000, 300 and 9. A call of a type that has no vectorcall makes a tuple of its arguments; a function makes a frame.
STATEMENTS = {
    'v[{S}] = "ab" * {n}': "",
    'v[{S}] = "é€" * {m} + v[{S}]': "",
    "v[{S}] = v[{S}].upper()": "",
    "v[{S}] = v[{S}][:{m}]": "slice",
    'v[{S}] = "%x" % {n} + "y" * {k}': "",
    'v[{S}] = "".join(["x", "y" * {n}])': "list",
    'v[{S}] = v[{S}].replace("a", "bc")[:{n}]': "slice",
    'v[{S}] = f"{{{n}}} {{v[{S}]!r:.20}}"': "frame",
    'v[{X}] = v[{S}].encode("utf-16")': "",
    "v[{L}] = v[{S}].split('b')": "list",
    'v[{B}] = b"\\0" * {n}': "",
    'v[{B}] = v[{B}] + b"1" * {m}': "",
    "v[{B}] = v[{B}][-{m}:]": "slice",
    "v[{B}] = zlib.compress(v[{B}])": "tuple",
    "v[{X}] = zlib.compressobj({k})": "tuple",
    "v[{X}] = pickle.dumps(v[{L}])": "tuple list dict",
    "v[{X}] = json.dumps(v[{N}])": "tuple list dict frame",
    'v[{A}].extend(b"x" * {n})': "",
    'v[{A}] += b"y" * {m}': "",
    "del v[{A}][{m}:]": "slice",
    "del v[{A}][:{k}]": "slice",
    "v[{A}].clear()": "",
    "v[{A}] = bytearray({n})": "tuple",
    "v[{A}].append({k})": "",
    "v[{X}] = memoryview(v[{B}])": "tuple",
    "v[{L}].append(None)": "",
    "v[{L}].extend(range({m}))": "",
    "v[{L}].extend(v[{S}])": "",
    "v[{L}] += [{n}]": "list",
    "v[{L}] = [{n}] * {k}": "list",
    "v[{L}] = [each * 3 for each in range({n})]": "list frame",
    "v[{L}] = v[{L}][::2]": "list slice",
    "v[{L}].insert(0, {n})": "",
    "v[{L}].clear()": "",
    "if v[{L}]: v[{L=}].pop()": "",
    "v[{L}] = sorted(v[{E}], key=half)": "list frame float tuple",
    "v[{X}] = list(map(half, range({m})))": "list frame float tuple",
    "v[{D}] = {{}}": "dict",
    'v[{D}][{n}] = "z" * {k}': "",
    "v[{D}][{k}] = {n} + 300": "",
    "v[{D}].pop({k}, None)": "",
    "v[{D}] = dict.fromkeys(range({m}))": "dict",
    "v[{D}] = {{each: str(each) for each in range({m})}}": "dict frame tuple",
    "v[{D}].update(v[{D}])": "tuple",
    "v[{D}] = v[{D}].copy()": "dict",
    "v[{D}] = dict(a={n}, b={m})": "dict",
    "v[{D}].clear()": "",
    "v[{D}] = {{value: key for key, value in enumerate(v[{S}])}}": "dict frame tuple",
    "v[{E}].add({n})": "",
    "v[{E}].discard({k})": "",
    "v[{E}].update(range({m}))": "tuple",
    "v[{E}] |= v[{E}]": "",
    "v[{E}] = v[{E}] - {{1, 2, 3}}": "",
    "v[{E}] = set(range({m}))": "",
    "v[{X}] = frozenset(v[{E}])": "",
    "v[{E}].clear()": "",
    "v[{N}] = v[{N}] * v[{N}] % 10**400": "",
    "v[{N}] = 7 ** {m}": "",
    "v[{N}] = v[{N}] // 3 + {n}": "",
    "v[{N}] <<= {k}": "",
    "v[{X}] = {n} / 7": "float",
    "v[{X}] = [each / 3 for each in range({m})]": "list frame float",
    "v[{X}] = sum(each * 0.5 for each in range({m}))": "frame float",
    "v[{X}] = complex({n}, {m})": "tuple float",
    "v[{X}] = (v[{S}], {n}, None)": "tuple",
    "v[{X}] = tuple(range({k}))": "tuple",
    "v[{X}] = slice({n}, {m})": "tuple slice",
    "v[{X}] = Plain()": "dict",
    "v[{P}] = Plain()": "dict",
    "v[{P}].a = {n} + 1000": "dict",
    "v[{P}].b = v[{S}]": "dict",
    "v[{P}].__dict__[{n}] = None": "dict",
    "v[{X}] = [Plain() for _ in range({m})]": "dict list frame",
    "v[{T}] = Slotted({n})": "tuple frame",
    "v[{T}].one = {n} * 5": "",
    "v[{X}] = [Slotted(each) for each in range({m})]": "tuple list frame",
    "v[{X}] = Pair({n}, v[{S}])": "tuple frame",
    "v[{X}] = adder({n})": "tuple frame",
    "v[{X}] = lambda: {n}": "tuple dict",
    "v[{X}] = v[{L}].append": "method",
    "v[{X}] = v[{P}].method": "method dict",
    "v[{G}] = numbers({k})": "frame",
    "next(v[{G}], None)": "frame list float tuple",
    "v[{X}] = list(numbers({m}))": "frame list",
    "v[{X}] = partial(half, {n})": "tuple dict",
    "v[{Q}].append({n})": "",
    "v[{Q}].extend(range({m}))": "",
    "if v[{Q}]: v[{Q=}].popleft()": "",
    "v[{X}] = caught({n})": "frame tuple list dict traceback",
    "v[{X}] = missing({n})": "frame tuple list dict traceback",
    "v[{X}] = deep({k})": "frame list tuple",
    "v[{X}] = type('Made', (), {{}})": "tuple dict list",
    "v[{X}] = copy_context()": "context",
    "v[{X}] = [copy_context() for _ in range({k})]": "context list frame",
    "v[{X}] = drive(asynchronous({k}))": "frame list tuple async_generator_asend",
    "v[{X}] = eval(EXPRESSION)": "frame list tuple dict",
    "ring({m})": "list frame",
    "v[{X}] = None": "",
    "v[{L}], v[{X}] = [], v[{L}]": "list tuple",
}

# In a thread of their own, run to its end.
THREADED = {"in_thread(work{f}, v)": "everything"}

# In programs that say so: what the collector does is up to the collector.
COLLECTED = {"gc.collect()": "everything", "gc.collect(0)": "everything"}

PRELUDE = """\
import gc, json, pickle, zlib, _thread, time
from collections import deque, namedtuple
from contextvars import copy_context
from functools import partial

Pair = namedtuple("Pair", "left right")
EXPRESSION = compile("[each * 99 for each in range(40)]", "<expression>", "eval")

class Plain:
    def method(self):
        return self

class Slotted:
    __slots__ = ("one", "two")
    def __init__(self, one):
        self.one = one

def half(number):
    return number / 2

def adder(number):
    held = "h" * number
    def add(other):
        return held + other
    return add

def numbers(count):
    for each in range(count):
        yield "g" * each

async def _asynchronous(count):
    for each in range(count):
        yield "a" * each

def asynchronous(count):
    return _asynchronous(count)

def drive(generator):
    found = []
    while True:
        try:
            generator.__anext__().send(None)
        except StopIteration as stop:
            found.append(stop.value)
        except StopAsyncIteration:
            return found

def caught(number):
    try:
        raise ValueError("e" * number)
    except ValueError as error:
        return error

def missing(number):
    try:
        return {}[number]
    except KeyError:
        return number * 2000

def deep(levels):
    return deep(levels - 1) if levels else ["d"] * 50

def ring(length):
    first = last = []
    for _ in range(length):
        last = [last]
    first.append(last)

def in_thread(function, *arguments):
    done = _thread.allocate_lock()
    done.acquire()
    def run():
        function(*arguments)
        done.release()
    count = _thread._count()
    _thread.start_new_thread(run, ())
    done.acquire()
    while _thread._count() > count:
        time.sleep(0.0001)
    time.sleep(0.002)  # It still frees its own state.

def slots():
    return [
"""


class Program:
    """A program of a seed."""

    def __init__(self, seed, *, threads=False, collects=False):
        draw = random.Random(seed)
        places = {}
        lines = PRELUDE.splitlines()
        for kind, (count, first) in KINDS.items():
            places[kind] = range(sum(map(len, places.values())), sum(map(len, places.values())) + count)
            lines += [f"        {first}," for _ in range(count)]
        lines.append("    ]")
        self.types = {}
        """The types that a line makes objects of, by its number."""
        self.templates = set()
        """The statements that occur."""
        templates = [each for each in STATEMENTS if draw.random() < 0.6]
        functions = draw.choice((1, 2, 3, 4))

        def fill(template, function):
            last = {}

            def number(match):
                name, again = match[1], match[2]
                if not again:
                    most = {"n": 2000, "m": 300, "k": 9, "f": function}
                    last[name] = draw.choice(places[name]) if name in places else draw.randrange(most[name])
                return str(last[name])

            return re.sub(r"\{(\w)(=?)\}", number, template).replace("{{", "{").replace("}}", "}")

        def statement(indent, table, template, function=1):
            lines.append(indent + fill(template, function))
            self.types[len(lines)] = table[template].split()
            self.templates.add(template)

        for function in range(functions):
            lines += ["", f"def work{function}(v):"]
            for _ in range(draw.choice((4, 8, 16, 30))):
                if draw.random() < 0.15:
                    lines.append(f"    for _ in range({draw.choice((2, 3, 20))}):")
                    self.types[len(lines)] = []
                    for _ in range(draw.choice((1, 2, 3))):
                        statement("        ", STATEMENTS, draw.choice(templates))
                elif collects and draw.random() < 0.05:
                    statement("    ", COLLECTED, draw.choice(list(COLLECTED)))
                elif threads and function and draw.random() < 0.2:
                    statement("    ", THREADED, "in_thread(work{f}, v)", function)
                else:
                    statement("    ", STATEMENTS, draw.choice(templates))
            if function and draw.random() < 0.7:
                lines.append(f"    work{draw.randrange(function)}(v)")
        lines += ["", "def main(v):", f"    work{functions - 1}(v)", ""]
        if threads:
            # The peak is here: what a thread frees at its end, it frees at a time of its own.
            lines.insert(-1, '    "p" * 20_000_000')
        self.text = "\n".join(lines)
