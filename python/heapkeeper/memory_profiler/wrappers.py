"""Profiled functions: what stands in for one calls it, with a profiler enabled whenever it runs, and never while it waits.

Functions, generator functions, coroutine functions and asynchronous generator functions stay what they are. A *call* is an
object that is entered for each stretch in which the function runs, and whose `finish` is called when it has ended.
"""

import functools
import inspect
import types


def plain(func):
    """What a static or class method is made from; anything else is itself."""
    return func.__func__ if isinstance(func, (staticmethod, classmethod)) else func


class Enabled:
    """A call during which a profiler is enabled."""

    def __init__(self, profiler):
        self._profiler = profiler

    def __enter__(self):
        self._profiler.enable_by_count()

    def __exit__(self, *_):
        self._profiler.disable_by_count()

    def finish(self):
        pass


def wrap(func, make_call):
    """What stands in for a function. make_call: makes a call, in the sense above."""
    if isinstance(func, (staticmethod, classmethod)):
        return type(func)(wrap(func.__func__, make_call))

    if inspect.isasyncgenfunction(func):

        async def wrapper(*args, **kwargs):
            call = make_call()
            try:
                generator = func(*args, **kwargs)
                step = generator.__anext__
                while True:
                    try:
                        item = await _stepped(call, step())
                    except StopAsyncIteration:
                        return
                    try:
                        sent = yield item
                    except GeneratorExit:
                        await _stepped(call, generator.aclose())
                        raise
                    except BaseException as error:
                        step = functools.partial(generator.athrow, error)
                    else:
                        step = functools.partial(generator.asend, sent)
            finally:
                call.finish()

    elif inspect.iscoroutinefunction(func):

        async def wrapper(*args, **kwargs):
            call = make_call()
            try:
                return await _stepped(call, func(*args, **kwargs))
            finally:
                call.finish()

    elif inspect.isgeneratorfunction(func):

        def wrapper(*args, **kwargs):
            call = make_call()
            try:
                return (yield from _steps(call, func(*args, **kwargs)))
            finally:
                call.finish()

    else:

        def wrapper(*args, **kwargs):
            call = make_call()
            try:
                with call:
                    return func(*args, **kwargs)
            finally:
                call.finish()

    return functools.update_wrapper(wrapper, func)


def _steps(call, steps):
    """`yield from steps`, in a call (PEP 380's expansion)."""
    resume = functools.partial(steps.send, None)
    while True:
        try:
            with call:
                item = resume()
        except StopIteration as end:
            return end.value
        try:
            sent = yield item
        except GeneratorExit:
            with call:
                steps.close()
            raise
        except BaseException as error:
            resume = functools.partial(steps.throw, error)
        else:
            resume = functools.partial(steps.send, sent)


_stepped = types.coroutine(_steps)
