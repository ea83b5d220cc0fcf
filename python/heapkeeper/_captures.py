"""What the verbs that read captures share: their options, their files, and what is said where one cannot be read.

What becomes of a capture's stacks is the native module's work: a page, a table, a file for another tool.
"""

import argparse
import contextlib
import json
import os
import signal
import stat
import sys

from heapkeeper import cli
from heapkeeper._exit import terminal


class Usage(Exception):
    """Wrong arguments, in one line."""


class Options(argparse.ArgumentParser):
    """The options of a verb; its help is a text of its own."""

    def __init__(self):
        super().__init__(add_help=False, allow_abbrev=False)

    def error(self, message):
        raise Usage(message)


def run(command, help_text, options, arguments, verb):
    """Run a verb, a function of its options, and return its exit status."""
    # What captures say is not worth a traceback: Ctrl-C ends it, and so does a reader that has seen enough.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if "-h" in arguments or "--help" in arguments:
        print(help_text, end="", file=cli.output())
        return 0
    try:
        return verb(options.parse_intermixed_args(arguments))
    except Usage as error:
        return cli.usage_error(command, str(error), f"{command} --help")


@contextlib.contextmanager
def opened(command, names):
    """Open files to read, `-` for standard input: pairs of name and file. Says which cannot be opened."""
    with contextlib.ExitStack() as stack:
        files = []
        for name in names:
            try:
                file = sys.stdin.buffer if name == "-" else stack.enter_context(open(name, "rb"))
                files.append((name, file))
            except (OSError, ValueError) as error:
                complain(command, name, getattr(error, "strerror", None) or str(error))
        yield files


def stacks(command, form, names, before=(), **query):
    """The stacks of captures in some form: bytes, and an exit status. None in place of bytes says that there are none.

    The forms: flamegraph, difference (pages), diff (text), collapsed, speedscope, pprof, parquet. The query:
    crates/python, stacks.rs, Query. Files in `before` are what the others are compared with.
    """
    from heapkeeper import _native

    with opened(command, [*before, *names]) as files:
        status = 0 if len(files) == len(before) + len(names) else 1
        if not files or (before and status):
            return None, status
        descriptors = tuple(file.fileno() for _, file in files)
        query = json.dumps({"form": form, "before": len(before), **query})
        content, rest = _native.capture_stacks(descriptors, query, *terminal(1), os.isatty(2))
        rest = json.loads(rest)
        complain_all(command, files, rest)
    if rest.get("problem") is not None:
        print(f"{command}: {rest['problem']}", file=sys.stderr)
        return None, 2
    return content, 1 if status or any(rest["errors"]) else 0


def moment_and_measure(at, temporary):
    """Of a query, what was live, at the peak by default; or what was freed again, until the end by default."""
    default = "end" if temporary else "peak"
    return {"at": [default if at is None else at], "measure": "temporary" if temporary else "live"}


def write(command, content, output=None, captures=(), opener=None):
    """Write to a file, or to standard output where `output` is None or `-`; never over one of the captures.

    opener: as `open` takes it. Returns an exit status. Raises OSError where it is standard output that cannot be written.
    """
    if output in (None, "-"):
        stream = cli.output().buffer
        stream.write(content)
        stream.flush()
        return 0
    try:
        if any(os.path.exists(output) and os.path.samefile(output, name) for name in captures if name != "-"):
            raise Usage(f"{_shown(output)} is a capture, which would be lost")
        with open(output, "wb", opener=opener) as file:
            file.write(content)
    except (OSError, ValueError) as error:
        complain(command, output, getattr(error, "strerror", None) or str(error))
        return 1
    return 0


def private(path, flags):
    """Open a file that its owner alone may read, as every capture is. For `open`."""
    descriptor = os.open(path, flags, 0o600)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):  # It may be a device.
        os.fchmod(descriptor, 0o600)  # It may have been there.
    return descriptor


def complain_all(command, files, answer):
    """Say on stderr what is wrong with which file, from the native module's answer."""
    unknown = [None] * len(files)
    errors, damages = answer.get("errors") or unknown, answer.get("damages") or unknown
    for (name, _), error, damage in zip(files, errors, damages, strict=True):
        if error is not None or damage is not None:
            complain(command, name, error or damage)


def complain(command, name, what):
    """Say on stderr, in one line, what is wrong with a file."""
    print(f"{command}: {_shown(name)}: {what}", file=sys.stderr)


def _shown(name):
    # A name may hold anything, a line break too.
    return name if name.isprintable() else ascii(name)
