"""Every kind of object that a generated program makes, and how one of any kind is made to refer to another.

A maker is called as `maker(number, first, second)` and returns an object that refers to a Tag of that number and, where its kind can hold them, to
`first` and `second`. Nothing here depends on an address: what is hashed hashes its number.
"""

import array
import asyncio
import collections
import contextvars
import csv
import functools
import io
import itertools
import operator
import queue
import threading
import types
from xml.etree.ElementTree import Element

try:
    import ctypes
except ImportError:
    # An interpreter with a GIL of its own can not load it up to 3.12.
    ctypes = None

LOG = []
"""What happened so far, as strings: the events of the running program."""

FINALIZERS = {}
"""`FINALIZERS["object"](instance)` is what a finalizer does; world.py puts it in."""

VARIABLE = contextvars.ContextVar("program variable", default=None)


class ProgramError(Exception):
    """What programs raise."""


class Tag(int):
    """A leaf; that it is freed is an event."""

    __slots__ = ()

    def __del__(self):
        LOG.append(f"freed {int(self)}")


class Numbered:
    """Hashed by its number, so that a set of these has the same order in every process."""

    __slots__ = ()

    def __hash__(self):
        return hash(int(self.tag))

    def method(self):
        return self


class Finalized:
    """A class with a finalizer, whose deed was drawn with the object."""

    __slots__ = ()

    def __del__(self):
        FINALIZERS["object"](self)


class Plain(Numbered):
    def __init__(self, number, first=None, second=None):
        self.tag, self.first, self.second = Tag(number), first, second


class Slotted(Numbered):
    __slots__ = ("__weakref__", "first", "second", "tag")

    def __init__(self, number, first=None, second=None):
        self.tag, self.first, self.second = Tag(number), first, second


class Bare(Slotted):
    """Slots, and a dict that comes with the first attribute that has no slot."""


class FinalizedPlain(Finalized, Plain):
    pass


class FinalizedSlotted(Finalized, Slotted):
    __slots__ = ()


class ListOf(Numbered, list):
    pass


class DictOf(Numbered, dict):
    pass


class SetOf(Numbered, set):
    pass


class TupleOf(Numbered, tuple):
    pass


class FinalizedList(Finalized, ListOf):
    pass


class BytesOf(bytearray):
    pass


class ArrayOf(array.array):
    pass


class DequeOf(collections.deque):
    pass


class StreamOf(io.BytesIO):
    pass


class Loop:
    """As much of an event loop as a future asks for."""

    def get_debug(self):
        return False

    def call_soon(self, *arguments, **options):
        pass

    def call_exception_handler(self, context):
        LOG.append(f"never retrieved: {context['message']}")


LOOP = Loop()


class Pause:
    def __await__(self):
        yield self


def _suspended(tag, first, second):
    held = [tag, first, second]
    try:
        while True:
            held.append((yield))
    finally:
        LOG.append(f"closed {int(tag)}")


def _stubborn(tag, first, second):
    """A generator that does not let itself be closed."""
    held = [tag, first, second]
    while True:
        try:
            held.append((yield))
        except GeneratorExit:
            LOG.append(f"stays open {int(tag)}")


async def _waiting(tag, first, second):
    held = [tag, first, second]
    try:
        await Pause()
    finally:
        held.append(None)
        LOG.append(f"cancelled {int(tag)}")


async def _series(tag, first, second):
    held = [tag, first, second]
    try:
        while True:
            yield held
    finally:
        LOG.append(f"series closed {int(tag)}")


def _generator(number, first, second):
    generator = (_stubborn if number % 7 == 0 else _suspended)(Tag(number), first, second)
    if number % 5:
        next(generator)
    return generator


def _coroutine(number, first, second):
    coroutine = _waiting(Tag(number), first, second)
    if number % 3:
        coroutine.send(None)
    return coroutine


def _async_generator(number, first, second):
    series = _series(Tag(number), first, second)
    if number % 3:
        try:
            series.asend(None).send(None)
        except StopIteration:
            pass
    return series


def _raising(depth, tag, first, second):
    held = [tag, first, second]
    if depth:
        _raising(depth - 1, tag, held, second)
    raise ProgramError(int(tag))


def _exception(number, first, second):
    """An exception, its traceback, and frames of which one refers to the exception."""
    try:
        _raising(number % 3, Tag(number), first, second)
    except ProgramError as error:
        kept = error
        error.held = [first, second]
    return kept


def _closure(number, first, second):
    held = [Tag(number), first, second]

    def inner():
        return held, inner

    return inner


def _class(number, first, second):
    base = (Plain, FinalizedPlain, ListOf, Bare)[number % 4]
    return type("Made", (base,), {"made": Tag(number), "held": [first, second]})


def _instance(number, first, second):
    return type("MadeToo", (Plain,), {"held": first})(number, first, second)


def _context(number, first, second):
    context = contextvars.Context()
    context.run(VARIABLE.set, [Tag(number), first, second])
    return context


def _cached(number, first, second):
    tag = Tag(number)
    cached = functools.lru_cache(4)(lambda argument: [tag, first])
    cached(1)
    cached.second = second
    return cached


def _future(number, first, second):
    future = asyncio.Future(loop=LOOP)
    future.add_done_callback(functools.partial(print, Tag(number), first))
    if number % 3 == 0:
        error = ProgramError(number)
        error.held = second
        future.set_exception(error)
    elif number % 3 == 1:
        future.set_result(second)
    return future


def _element(number, first, second):
    element = Element("element", {"number": str(number)})
    element.text, element.tail = [Tag(number), first], [second]
    element.append(Element("child"))
    return element


def _local(number, first, second):
    local = threading.local()
    local.tag, local.first, local.second = Tag(number), first, second
    return local


def _stream(number, first, second):
    stream = StreamOf(b"content")
    stream.tag, stream.first, stream.second = Tag(number), first, second
    return stream


def _text(number, first, second):
    text = io.TextIOWrapper(_stream(number, first, second))
    text.mode = second
    return text


def _view(number, first, second):
    exporter = BytesOf(b"exported")
    exporter.tag, exporter.first, exporter.second = Tag(number), first, second
    view = memoryview(exporter)
    exporter.view = view
    return view


def _array(number, first, second):
    made = ArrayOf("i", [1, 2, 3])
    made.tag, made.first, made.second = Tag(number), first, second
    return made


def _function_pointer(number, first, second):
    held = [Tag(number), first, second]

    def called():
        return len(held)

    pointer = ctypes.CFUNCTYPE(ctypes.c_int)(called)
    held.append(pointer)
    return pointer


def _simple_queue(number, first, second):
    made = queue.SimpleQueue()
    for each in (Tag(number), first, second):
        made.put(each)
    return made


def _attributes(made, number, first, second):
    made.tag, made.first, made.second = Tag(number), first, second
    return made


def _hashable(value):
    return isinstance(value, Numbered) and hasattr(value, "tag")


def _items(number, first, second):
    return [Tag(number), *(each for each in (first, second) if _hashable(each))]


def _container(kind):
    def make(number, first, second):
        made = kind([Tag(number), first, second])
        made.tag = made[0]
        return made

    return make


def _dict_of(number, first, second):
    made = DictOf(tag=Tag(number), first=first, second=second)
    made.tag = made["tag"]
    return made


def _set_of(number, first, second):
    made = SetOf(_items(number, first, second))
    made.tag = Tag(-number)
    return made


def _list(number, first, second):
    return [Tag(number), first, second]


MAKERS = {
    "list": _list,
    "empty list": lambda number, first, second: [],
    "dict": lambda number, first, second: {"tag": Tag(number), "first": first, "second": second},
    "atomic dict": lambda number, first, second: {"number": number},
    "dict by tuple": lambda number, first, second: {(number, "key"): Tag(number), 1: first, 2: second},
    "set": lambda number, first, second: set(_items(number, first, second)),
    "frozenset": lambda number, first, second: frozenset(_items(number, first, second)),
    "tuple": lambda number, first, second: (Tag(number), first, second),
    "atomic tuple": lambda number, first, second: ("text", number),
    "tuple of dict": lambda number, first, second: ({"tag": Tag(number)}, [first], ()),
    "plain": Plain,
    "slotted": Slotted,
    "bare": Bare,
    "finalized": FinalizedPlain,
    "finalized slotted": FinalizedSlotted,
    "list subclass": _container(ListOf),
    "finalized list": _container(FinalizedList),
    "tuple subclass": _container(TupleOf),
    "dict subclass": _dict_of,
    "set subclass": _set_of,
    "generator": _generator,
    "coroutine": _coroutine,
    "async generator": _async_generator,
    "exception": _exception,
    "closure": _closure,
    "class": _class,
    "instance of a new class": _instance,
    "bound method": lambda number, first, second: types.MethodType(_list, Plain(number, first, second)),
    "builtin method": lambda number, first, second: _list(number, first, second).append,
    "cell": lambda number, first, second: types.CellType(_list(number, first, second)),
    "namespace": lambda number, first, second: types.SimpleNamespace(tag=Tag(number), first=first, second=second),
    "mapping proxy": lambda number, first, second: types.MappingProxyType({"tag": Tag(number), "first": first}),
    "property": lambda number, first, second: property(_closure(number, first, second)),
    "static method": lambda number, first, second: staticmethod(_closure(number, first, second)),
    "alias": lambda number, first, second: types.GenericAlias(list, (Tag(number), first)),
    "super": lambda number, first, second: super(Plain, Plain(number, first, second)),
    "list iterator": lambda number, first, second: iter(_list(number, first, second)),
    "reversed": lambda number, first, second: reversed(_list(number, first, second)),
    "enumerate": lambda number, first, second: enumerate(_list(number, first, second)),
    "zip": lambda number, first, second: zip(_list(number, first, second), [second], strict=False),
    "map": lambda number, first, second: map(_closure(number, first, second), [first]),
    "dict values": lambda number, first, second: {"tag": Tag(number), "first": first}.values(),
    "dict iterator": lambda number, first, second: iter({"tag": Tag(number), "first": first}.items()),
    "deque": lambda number, first, second: collections.deque(_list(number, first, second)),
    "deque subclass": lambda number, first, second: _attributes(DequeOf(), number, first, second),
    "ordered dict": lambda number, first, second: collections.OrderedDict(tag=Tag(number), first=first, second=second),
    "default dict": lambda number, first, second: collections.defaultdict(
        _closure(number, first, second), second=second
    ),
    "partial": lambda number, first, second: functools.partial(_list, Tag(number), first, keyword=second),
    "cached": _cached,
    "item getter": lambda number, first, second: operator.itemgetter(Tag(number), first),
    "chain": lambda number, first, second: itertools.chain(_list(number, first, second), [second]),
    "cycle": lambda number, first, second: itertools.cycle(_list(number, first, second)),
    "tee": lambda number, first, second: itertools.tee(_list(number, first, second))[1],
    "group": lambda number, first, second: itertools.groupby([first, second], _closure(number, first, second)),
    "stream": _stream,
    "text": _text,
    "csv writer": lambda number, first, second: csv.writer(_stream(number, first, second)),
    "array": _array,
    "view": _view,
    "py_object": lambda number, first, second: ctypes.py_object(_list(number, first, second)),
    "structure": lambda number, first, second: Pair(_list(number, first, second), [second]),
    "structures": lambda number, first, second: (Pair * 2)(Pair(_list(number, first, second), [second])),
    "pointer": lambda number, first, second: ctypes.pointer(Pair(_list(number, first, second), [second])),
    "function pointer": _function_pointer,
    "context": _context,
    "element": _element,
    "future": _future,
    "local": _local,
    "simple queue": _simple_queue,
}

if ctypes:

    class Pair(ctypes.Structure):
        _fields_ = (("first", ctypes.py_object), ("second", ctypes.py_object))

else:
    without = ("py_object", "structure", "structures", "pointer", "function pointer")
    MAKERS.update((name, _list) for name in without)


def apart(value, kinds=(tuple, dict)):
    """A value as a tuple may hold it, which is no tuple or dict by itself; with `kinds=(dict,)`, as a dict may.

    A tuple of tuples of atoms is untracked from the inside; how many collections that takes depends on the order of CPython's list.
    A dict of tuples of atoms takes one, for CPython looks at all tuples first; ours takes another if the dict is older.
    """
    return [value] if type(value) in kinds else value


def link(holder, target):
    """Makes `holder` refer to `target`; does nothing where its kind can not."""
    if isinstance(holder, (list, collections.deque)):
        holder.append(target)
    elif isinstance(holder, set):
        if _hashable(target):
            holder.add(target)
    elif isinstance(holder, dict):
        holder[f"link {len(holder)}"] = apart(target, (dict,))
    elif isinstance(holder, types.GeneratorType):
        if not holder.gi_running and holder.gi_frame is not None:
            # A generator that was not started yet takes nothing but None.
            try:
                holder.send(target)
            except (TypeError, StopIteration):
                pass
    elif isinstance(holder, contextvars.Context):
        holder.run(VARIABLE.set, target)
    elif isinstance(holder, queue.SimpleQueue):
        holder.put(target)
    elif isinstance(holder, types.CellType):
        holder.cell_contents = target
    elif isinstance(holder, Element):
        holder.tail = target
    elif isinstance(holder, types.BuiltinMethodType):
        holder(target)
    elif isinstance(holder, asyncio.Future):
        if not holder.done():
            holder.add_done_callback(functools.partial(print, target))
    else:
        try:
            holder.link = target
        except (AttributeError, TypeError, ValueError):
            pass


def unlink(holder):
    """Drops one reference that `holder` has, if it can be made to."""
    if isinstance(holder, (list, collections.deque)):
        if len(holder) > 1:
            holder.pop()
    elif isinstance(holder, dict):
        if len(holder) > 1:
            holder.popitem()
    elif isinstance(holder, queue.SimpleQueue):
        if not holder.empty():
            holder.get()
    else:
        link(holder, None)
