"""`heapkeeper leak`: calls a function again and again, and says what grows a call."""

import argparse
import asyncio
import contextlib
import importlib.util
import inspect
import json
import os
import pkgutil
import sys
import traceback

import heapkeeper
from heapkeeper import NotInstalledError, cli, leak
from heapkeeper._wording import place_text, size_text

_COMMAND = "heapkeeper leak"

_HELP = f"""\
usage: heapkeeper leak [options] MODULE:CALLABLE

Calls a function without arguments again and again, and says what it leaves behind: how much a call, from which line.

  MODULE:CALLABLE   as in shop.orders:refresh, or a file: tests/leaky.py:refresh. The module is looked for in this folder
                    too. A coroutine function is run on an event loop.

options:
  --times N         calls that are measured, {leak.MIN_TIMES} at least: more see less, and
                    tell a cache that is slow to fill from a leak        (default: {leak.DEFAULT_TIMES})
  --warm-up N       calls before these, which fill caches                (default: {leak.DEFAULT_WARM_UP})
  --json            the answer as one JSON object
  -h, --help        show this help

Exit status: 0 if nothing grows, 1 if something does, 2 if the function could not be measured. Ctrl-C gives what was
measured so far, and exit status 130.
"""

# Lines of a report, and frames of a stack in it.
_MAX_LINES = 10
_MAX_FRAMES = 8


class _Problem(Exception):
    """Why the function cannot be measured, in one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise _Problem(message)


def main(arguments):
    """Run the verb. Returns an exit status."""
    if "-h" in arguments or "--help" in arguments:
        print(_HELP, end="")
        return 0
    try:
        options = _read(arguments)
    except _Problem as problem:
        return cli.usage_error(_COMMAND, str(problem), "heapkeeper leak --help")
    try:
        # Before the program's first import, so that all its memory is ours.
        if not heapkeeper.install():
            raise _Problem("memory is counted on our heap only, and CPython's allocator stays")
        with contextlib.ExitStack() as at_end:
            function = _function(options.target, at_end)
            answer = leak.measure(function, options.times, options.warm_up, _progress(options))
    except (_Problem, NotInstalledError) as problem:
        print(f"{_COMMAND}: {problem}", file=sys.stderr)
        return 2
    except (Exception, SystemExit) as error:
        traceback.print_exc()
        print(f"{_COMMAND}: {options.target} raised {type(error).__name__}", file=sys.stderr)
        return 2
    finally:
        if _progress(options):
            print("\r\x1b[K", end="", file=sys.stderr)
    print(json.dumps(as_data(options.target, answer)) if options.json else as_text(options.target, answer))
    return 130 if answer.interrupted else int(answer.grows)


def _read(arguments):
    parser = _Parser(prog=_COMMAND, add_help=False, allow_abbrev=False)
    parser.add_argument("target")
    parser.add_argument("--times", type=_number, default=leak.DEFAULT_TIMES)
    parser.add_argument("--warm-up", type=_number, default=leak.DEFAULT_WARM_UP)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if options.times < leak.MIN_TIMES:
        raise _Problem(f"argument --times: {leak.MIN_TIMES} calls at least, fewer cannot tell")
    module, colon, name = options.target.rpartition(":")
    if not (module and colon and name):
        raise _Problem(f"{options.target!r} is not MODULE:CALLABLE")
    return options


def _number(text):
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _progress(options):
    """What shows how far it is, on a terminal."""
    if options.json or not (sys.stderr and sys.stderr.isatty()):
        return None
    calls = options.warm_up + options.times
    return lambda made: print(f"\r{made} of {calls} calls", end="", file=sys.stderr, flush=True)


def _function(target, at_end):
    """What to call, and to `at_end`, an ExitStack, what to do when it is not called any more. Raises _Problem."""
    module, _, name = target.rpartition(":")
    if module.endswith(".py"):
        found = _attribute(_load(module), name, module)
    else:
        sys.path.insert(0, os.getcwd())
        try:
            found = pkgutil.resolve_name(f"{module}:{name}")
        except ValueError:
            raise _Problem(f"{target!r} is not MODULE:CALLABLE") from None
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            raise _Problem(f"no module {module}") from None
        except AttributeError as error:
            raise _Problem(str(error)) from None
    if not callable(found):
        raise _Problem(f"{target} is no function: {type(found).__name__}")
    if inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found):
        raise _Problem(f"{target} is a generator function: nothing of it runs until somebody iterates over it")
    if inspect.iscoroutinefunction(found):
        # One loop for all calls, so that what a loop leaves behind is not the function's.
        loop = asyncio.new_event_loop()
        at_end.callback(_close, loop)
        return lambda: loop.run_until_complete(found())
    return found


def _close(loop):
    """Close a loop as `asyncio.run` does: what the function left running on it is cancelled."""
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def _load(path):
    """The module in a file."""
    if not os.path.isfile(path):
        raise _Problem(f"no file {path}")
    name = os.path.basename(path).removesuffix(".py")
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _attribute(found, name, path):
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise _Problem(f"{path} has no {name}") from None
    return found


def as_data(target, answer):
    """An answer as plain data."""
    return {
        "callable": target,
        "calls": answer.calls,
        "warm_up": answer.warm_up,
        "interrupted": answer.interrupted,
        "grows": answer.grows,
        "grown_bytes": answer.grown_bytes,
        "confidence": leak.CONFIDENCE,
        "growth": None if answer.total is None else _growth_data(answer.total),
        "lines": [
            _growth_data(line.growth)
            | {
                "blocks_per_call": line.blocks_per_call,
                "stack": [frame._asdict() for frame in line.frames],
            }
            for line in answer.lines
        ],
    }


def _growth_data(growth):
    return {"bytes_per_call": growth.per_call, "low": growth.low, "high": growth.high}


def as_text(target, answer):
    """An answer in a few lines."""
    made = f"{answer.calls} calls after {answer.warm_up} to warm up"
    if answer.interrupted:
        made += ", then interrupted"
    rows = [f"heapkeeper leak · {target} · {made}"]
    if answer.total is None:
        rows.append(f"Too few calls to tell: {size_text(answer.grown_bytes)} more are live than at the beginning.")
    elif not answer.grows:
        rows.append("Nothing grows.")
    else:
        rows += describe(answer.lines)
    return "\n".join(rows)


def describe(lines, callers=()):
    """Lines that grow, with the stack of each, as rows of text. callers: files of those who called the function."""
    rows = []
    for line in lines[:_MAX_LINES]:
        rows.append(f"{growth_text(line.growth, place_text(line.frames))}, {line.blocks_per_call:.1f} blocks a call")
        for place in range(1, min(len(line.frames), _MAX_FRAMES)):
            if line.frames[place].file in (__file__, leak.__file__, *callers):
                break
            rows.append(f"    called from {place_text(line.frames[place:])}")
    if len(lines) > _MAX_LINES:
        rows.append(f"and {len(lines) - _MAX_LINES} more lines")
    return rows


def growth_text(growth, place=None):
    """Such as "1.2 KiB a call from shop.py:9 (±0.1 KiB, 95 %)"."""
    origin = "" if place is None else f" from {place}"
    return f"{size_text(growth.per_call)} a call{origin} (±{size_text(growth.margin)}, {leak.CONFIDENCE:.0%})".replace(
        "%)", " %)"
    )
