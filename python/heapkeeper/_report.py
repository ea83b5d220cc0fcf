"""`heapkeeper report` and `heapkeeper lines`: what captures say, as text for a terminal, a pipe or a file.

The reports are rendered by the native module; here are the options, the files, and what is said where one cannot be read.
"""

import argparse
import json
import os
import signal
import sys

from heapkeeper import cli
from heapkeeper._exit import terminal

_HELP = {
    "report": """\
usage: heapkeeper report [options] FILE ...

Says what captures hold: where the memory of a program went. Several captures add up to one report.
Without a view: a summary, of the same shape as the report at exit.

views:
  --tree            the call tree by bytes
  --table           every line with all its figures; --by function, --sort blocks
  --timeline        live memory, heap and RSS over time, with the program's marks
  --leaks           what grew and was not freed: from the first mark to the last one, or from --from to --to
  --temporary       what was allocated and freed again, and how soon

options:
  --at MOMENT       peak, end, or seconds since the start: what was live then         (default: peak)
  --thread NAME     only what this thread allocated
  --by WHAT         rows of the table: line or function                               (default: line)
  --sort FIGURE     order of the table: bytes, blocks, or total for all allocated     (default: bytes)
  --from MARK       where growth begins to count: a mark's name, or seconds
  --to MARK         where it ends
  -h, --help        show this help
A FILE of - is standard input.

examples:
  heapkeeper report app.hk
  heapkeeper report --leaks --from 60 app.hk
  heapkeeper report --tree --at end worker-*.hk
  heapkeeper report --table app.hk | grep models.py
""",
    "lines": """\
usage: heapkeeper lines [options] FILE [SOURCE ...]

Shows memory beside each line of the source files that matter, or of those named, by a whole path or its end.

options:
  --thread NAME     only what this thread allocated
  -h, --help        show this help
A FILE of - is standard input.

examples:
  heapkeeper lines app.hk
  heapkeeper lines app.hk models.py views/orders.py
""",
}

_VIEWS = ("tree", "table", "timeline", "leaks", "temporary")


class _Usage(Exception):
    """Wrong arguments, in one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise _Usage(message)


def main(verb, arguments):
    """Run a verb. Returns an exit status."""
    # A report is not worth a traceback: Ctrl-C ends it, and so does a reader that has seen enough.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    command = f"heapkeeper {verb}"
    if "-h" in arguments or "--help" in arguments:
        print(_HELP[verb], end="")
        return 0
    try:
        options = _parser(verb).parse_args(arguments)
        query = _query(verb, options)
    except _Usage as error:
        return cli.usage_error(command, str(error), f"{command} --help")
    files = options.file if verb == "report" else [options.file]
    return _print(command, files, query)


def _parser(verb):
    parser = _Parser(prog=f"heapkeeper {verb}", add_help=False, allow_abbrev=False)
    parser.add_argument("--thread")
    if verb == "lines":
        parser.add_argument("file", metavar="FILE")
        parser.add_argument("source", metavar="SOURCE", nargs="*")
        return parser
    parser.add_argument("file", metavar="FILE", nargs="+")
    views = parser.add_mutually_exclusive_group()
    for view in _VIEWS:
        views.add_argument(f"--{view}", dest="view", action="store_const", const=view, default="summary")
    parser.add_argument("--at")
    parser.add_argument("--by", choices=("line", "function"))
    parser.add_argument("--sort", choices=("bytes", "blocks", "total"))
    parser.add_argument("--from", dest="from_")
    parser.add_argument("--to")
    return parser


# Options that only some views know, with those.
_ONLY = {
    "at": ("summary", "tree", "table", "temporary"),
    "by": ("table",),
    "sort": ("table",),
    "from": ("leaks",),
    "to": ("leaks",),
}


def _query(verb, options):
    """What the native module is asked: crates/analysis, report/capture/mod.rs, Query."""
    if verb == "lines":
        query = {"view": "lines", "files": options.source}
    else:
        query = {"view": options.view}
        for name, views in _ONLY.items():
            value = getattr(options, "from_" if name == "from" else name)
            if value is None:
                continue
            if options.view not in views:
                names = " or ".join("the summary" if view == "summary" else f"--{view}" for view in views)
                raise _Usage(f"--{name} goes with {names}")
            query[name] = value
    if options.thread is not None:
        query["thread"] = options.thread
    return query


def _print(command, names, query):
    """Print a report of captures; on stderr, a line for each that cannot be read, or not to its end."""
    from heapkeeper import _native

    status = 0
    opened = []
    for name in names:
        try:
            opened.append((name, sys.stdin.buffer if name == "-" else open(name, "rb")))
        except (OSError, ValueError) as error:
            status = 1
            _complain(command, name, getattr(error, "strerror", None) or str(error))
    if not opened:
        return status
    columns, color = terminal(1)
    descriptors = tuple(file.fileno() for _, file in opened)
    answer = json.loads(_native.capture_report(descriptors, json.dumps(query), columns, color, os.isatty(2)))
    text = answer.get("text")
    if text is not None:
        # Report and complaints in this order on one terminal.
        sys.stdout.buffer.write(text.encode(errors="backslashreplace"))
        sys.stdout.buffer.flush()
    errors = answer.get("errors") or [None] * len(opened)
    damages = answer.get("damages") or [None] * len(opened)
    for (name, _), error, damage in zip(opened, errors, damages, strict=True):
        if error is not None:
            status = 1
        if error is not None or damage is not None:
            _complain(command, name, error or damage)
    if answer.get("problem") is not None:
        print(f"{command}: {answer['problem']}", file=sys.stderr)
        return 2
    return status


def _complain(command, name, what):
    # A name may hold anything, a line break too.
    shown = name if name.isprintable() else ascii(name)
    print(f"{command}: {shown}: {what}", file=sys.stderr)
