"""When functions began and ended, and the process's memory then: `python -m heapkeeper.memory_profiler --timestamp`."""

import sys
import time

from heapkeeper.memory_profiler import backends, wrappers

__all__ = ["TimeStamper"]


class TimeStamper:
    """Notes the time and the memory at the beginning and at the end of each call of a decorated function."""

    def __init__(self, backend="psutil", include_children=False):
        self.backend = backends.choose(backend)
        self.include_children = include_children
        self.functions = {}
        self.stack = {}
        self.current_stack_level = -1

    def __call__(self, func=None, precision=None):
        """As a decorator."""
        if func is None:
            return lambda func: self(func)
        name = wrappers.plain(func)
        self.functions.setdefault(name, [])
        self.stack.setdefault(name, [])
        return wrappers.wrap(func, lambda: _StampedCall(self, name))

    def timestamp(self, name="<block>"):
        """A context that is noted under a name of its own."""

        def block():
            pass

        block.__module__, block.__name__ = "", name
        self.functions[block] = []
        self.stack[block] = []
        return _StampedBlock(self, block)

    def show_results(self, stream=None):
        """Print a line for each call: its function, memory and time at its beginning and end, and its depth."""
        if stream is None:
            stream = sys.stdout
        for func, calls in self.functions.items():
            for stamps, level in zip(calls, self.stack[func], strict=True):
                if len(stamps) == 2:
                    (began_mib, began), (ended_mib, ended) = stamps
                    name = f"{func.__module__}.{func.__name__}"
                    stream.write(f"FUNC {name} {began_mib:.4f} {began:.4f} {ended_mib:.4f} {ended:.4f} {level}\n")

    def stamp(self):
        """Memory in MiB, and the time."""
        memory_bytes = backends.process_bytes(self.backend)
        if self.include_children:
            memory_bytes += backends.children_bytes(self.backend)
        return memory_bytes / 2**20, time.time()


class _StampedCall:
    def __init__(self, stamper, func):
        self._stamper = stamper
        self._stamps = [stamper.stamp()]
        stamper.functions[func].append(self._stamps)
        stamper.stack[func].append(stamper.current_stack_level + 1)

    def __enter__(self):
        self._stamper.current_stack_level += 1

    def __exit__(self, *_):
        self._stamper.current_stack_level -= 1

    def finish(self):
        self._stamps.append(self._stamper.stamp())


class _StampedBlock:
    def __init__(self, stamper, func):
        self._stamper = stamper
        self._func = func

    def __enter__(self):
        self._call = _StampedCall(self._stamper, self._func)
        self._call.__enter__()

    def __exit__(self, *exception):
        self._call.__exit__(*exception)
        self._call.finish()
