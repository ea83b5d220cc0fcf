"""Memory line by line: `LineProfiler`.

A line's increment is what the process allocated while it ran less what it freed, to the byte: on our heap, and from malloc
in C libraries. Each growth is given to one line of a
profiled function: to the one at which its innermost frame stands, in the thread that met the next event. So for each
profiled function, the increments of its lines add up to what grew while it ran, through recursion, generators and
exceptions; what it calls counts too, profiled or not. What this package allocates itself is in no line.

The memory at a line is the process's size when the profiler was first enabled, and what grew since.
"""

import inspect
import threading
import types
import warnings
import weakref

from heapkeeper.memory_profiler import backends, events, wrappers
from heapkeeper.memory_profiler.clock import clock

__all__ = ["CodeMap", "LineProfiler"]

MIB = 2**20


class Table:
    """What is known of one profiled function and the code inside it.

    measures: line → (increment, memory, occurrences), in MiB, in the order in which lines were first left. The first line
    of the function stands for its beginning: its increment is the memory that there was when it first began.
    """

    def __init__(self, filename, code, lines):
        self.filename = filename
        self.code = code
        self.lines = lines
        self.measures = {}

    def begin(self, memory_bytes):
        """The function was called."""
        line = self.code.co_firstlineno
        increment, memory, occurrences = self.measures.get(line, (memory_bytes / MIB, 0.0, 0))
        self.measures[line] = increment, max(memory, memory_bytes / MIB), occurrences + 1

    def leave(self, line, grown_bytes, memory_bytes, times):
        """A line grew by that much; it was run so many times more."""
        increment, memory, occurrences = self.measures.get(line, (0.0, -float("inf"), 0))
        self.measures[line] = increment + grown_bytes / MIB, max(memory, memory_bytes / MIB), occurrences + times


class CodeMap(dict):
    """Code → measures, of each profiled function and the code inside it. `items()` tells the functions only."""

    def __init__(self):
        self.tables = []
        # By id, as code that is written twice is equal, and its hash is slow. The tables keep the code alive.
        self.by_id = {}

    def add(self, code):
        """Take in a function's code and the code inside it. Returns all of it, or nothing if there is no source of it."""
        if id(code) in self.by_id:
            return []
        try:
            source, first = inspect.getsourcelines(code)
        except (OSError, TypeError):
            print(f"ERROR: Could not find file {code.co_filename}")
            return []
        return self.add_table(Table(code.co_filename, code, range(first, first + len(source))))

    def add_table(self, table):
        """Take in a table. Returns the code that it is about."""
        self.tables.append(table)
        codes = [table.code]
        for code in codes:  # which grows meanwhile
            self.by_id[id(code)] = table
            self[code] = table.measures
            codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        return codes

    def items(self):
        """(file, lines) of each function that ran; lines are (number, (increment, memory, occurrences) or None)."""
        for table in self.tables:
            if table.measures:
                yield table.filename, ((line, table.measures.get(line)) for line in table.lines)


class Activity:
    """One table in one thread.

    frames: [code, line at which it stands, how often that line is still to be counted] of each, the innermost last. seen:
    this thread's share of growth, as far as lines have been given theirs.
    """

    __slots__ = ("frames", "seen", "table")

    def __init__(self, table):
        self.table = table
        self.frames = []
        self.seen = 0

    def enter(self, code, line, grown, memory_bytes):
        """A frame begins, or goes on."""
        self.account(grown, memory_bytes)
        self.frames.append([code, line, 0])

    def reach(self, code, line, grown, memory_bytes):
        """The innermost frame comes to another line, or again to this one."""
        if not self.frames:
            self.enter(code, line, grown, memory_bytes)
        self.account(grown, memory_bytes)
        # A comprehension on a line of the function that it is in is part of it.
        outer_code, outer_line, _ = self.frames[-2] if len(self.frames) > 1 else (code, line, 0)
        self.frames[-1][1:] = line, int(code is outer_code or line != outer_line)

    def leave(self, grown, memory_bytes):
        """The innermost frame ends, or is suspended."""
        self.account(grown, memory_bytes)
        if self.frames:
            self.frames.pop()

    def account(self, grown, memory_bytes):
        """Give the innermost line what grew since."""
        if self.frames:
            _, line, times = self.frames[-1]
            self.table.leave(line, grown - self.seen, memory_bytes, times)
            self.frames[-1][2] = 0
        self.seen = grown


class LineProfiler:
    """Measures the functions that it is told of, while it is enabled, in the threads that enabled it.

    include_children: memory of child processes counts as well, **no**. backend: see `memory_usage`; says what the memory
    at the first line is. max_mem: MiB; **none**. Where the process's memory reaches it, the debugger starts.
    """

    def __init__(self, *, include_children=False, backend="psutil", max_mem=None, **_):
        self.backend = backends.choose(backend)
        self.include_children = include_children
        self.max_mem = max_mem
        self.code_map = CodeMap()
        self.enable_count = 0
        self._origin_bytes = None
        self._threads = threading.local()
        clock.begin()

    def __call__(self, func=None, precision=1):
        """As a decorator: the function, profiled whenever it runs. precision is show_results's, and ignored."""
        if func is None:
            return lambda func: self(func)
        self.add_function(func)
        return self.wrap_function(func)

    def add_function(self, func):
        """Measure the lines of this function too."""
        code = getattr(wrappers.plain(func), "__code__", None)
        if code is None:
            warnings.warn(f"no code object in {func!r}; its lines are not measured", stacklevel=2)
            return
        with clock.stopped():
            codes = self.code_map.add(code)
            events.watch(codes)
            weakref.finalize(self, events.unwatch, codes).atexit = False

    def wrap_function(self, func):
        """The function, with this profiler enabled while it runs."""
        return wrappers.wrap(func, lambda: wrappers.Enabled(self))

    def runctx(self, cmd, globals, locals):
        """Execute a statement with this profiler enabled."""
        with self:
            exec(cmd, globals, locals)
        return self

    def fresh(self):
        """A profiler of the same functions that has measured nothing; for as long as this one lives."""
        other = LineProfiler(include_children=self.include_children, backend=self.backend, max_mem=self.max_mem)
        for table in self.code_map.tables:
            other.code_map.add_table(Table(table.filename, table.code, table.lines))
        return other

    def enable_by_count(self):
        """Enable in this thread; each of these calls needs one of `disable_by_count`."""
        self.enable_count += 1
        depth = getattr(self._threads, "depth", 0)
        self._threads.depth = depth + 1
        if depth == 0:
            self.enable()

    def disable_by_count(self):
        """Disable in this thread, once for each `enable_by_count`."""
        depth = getattr(self._threads, "depth", 0)
        if depth > 0:
            self.enable_count -= 1
            self._threads.depth = depth - 1
            if depth == 1:
                self.disable()

    def enable(self):
        with clock.stopped():
            if self._origin_bytes is None:
                self._origin_bytes = backends.process_bytes(self.backend) - clock.process[0]
            self._threads.activities = {}
            events.begin(self)

    def disable(self):
        with clock.stopped():
            events.end(self)

    def __enter__(self):
        self.enable_by_count()
        return self

    def __exit__(self, *_):
        self.disable_by_count()

    # What happened in the thread that calls, to a frame of `code`; `line` where that says more. `grown`: this thread's
    # share of what the heap grew by.

    def entered(self, code, _, grown):
        """It began."""
        activity = self._activity(code)
        if activity is not None:
            children_bytes, memory_bytes = self._memory()
            if activity.table.code is code:
                activity.table.begin(memory_bytes)
            activity.enter(code, code.co_firstlineno, grown + children_bytes, memory_bytes)

    def resumed(self, code, line, grown):
        """It was suspended at that line, and goes on."""
        activity = self._activity(code)
        if activity is not None:
            children_bytes, memory_bytes = self._memory()
            activity.enter(code, line, grown + children_bytes, memory_bytes)

    def reached(self, code, line, grown):
        """It comes to a line. Returns whether the process's memory has reached `max_mem` for the first time."""
        activity = self._activity(code)
        if activity is None:
            return False
        children_bytes, memory_bytes = self._memory()
        activity.reach(code, line, grown + children_bytes, memory_bytes)
        if self.max_mem is None or memory_bytes < self.max_mem * MIB:
            return False
        self.max_mem = None  # Once is enough.
        return True

    def left(self, code, _, grown):
        """It ended, or is suspended."""
        activity = self._activity(code)
        if activity is not None:
            children_bytes, memory_bytes = self._memory()
            activity.leave(grown + children_bytes, memory_bytes)

    def _memory(self):
        """Bytes of the children, as far as they count, and of the process with them."""
        children_bytes = backends.children_bytes(self.backend) if self.include_children else 0
        return children_bytes, self._origin_bytes + clock.process[0] + children_bytes

    def _activity(self, code):
        table = self.code_map.by_id.get(id(code))
        if table is None:
            return None
        activities = self._threads.activities
        activity = activities.get(id(table))
        if activity is None:
            activity = activities[id(table)] = Activity(table)
        return activity
