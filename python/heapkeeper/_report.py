"""`heapkeeper report` and `heapkeeper lines`: what captures say, as text for a terminal, a pipe or a file.

The reports are rendered by the native module; here are the options, the files, and what is said where one cannot be read.
"""

import json
import os
import sys

from heapkeeper import _captures
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
  --flamegraph OUT  a flame graph of what was live, as an HTML file that works offline;
                    with --temporary of what was freed again

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
  heapkeeper report --flamegraph app.html app.hk
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


def main(verb, arguments):
    """Run a verb. Returns an exit status."""
    command = f"heapkeeper {verb}"
    return _captures.run(command, _HELP[verb], _options(verb), arguments, lambda asked: _verb(verb, command, asked))


def _verb(verb, command, asked):
    query = _query(verb, asked)
    if verb == "lines":
        return _print(command, [asked.file], query)
    if asked.flamegraph is None:
        return _print(command, asked.file, query)
    of = _captures.moment_and_measure(asked.at, asked.view == "temporary")
    page, status = _captures.stacks(command, "flamegraph", asked.file, thread=asked.thread, **of)
    if page is None:
        return status
    return _captures.write(command, page, asked.flamegraph, asked.file) or status


def _options(verb):
    parser = _captures.Options()
    parser.add_argument("--thread")
    if verb == "lines":
        parser.add_argument("file", metavar="FILE")
        parser.add_argument("source", metavar="SOURCE", nargs="*")
        return parser
    parser.add_argument("file", metavar="FILE", nargs="+")
    views = parser.add_mutually_exclusive_group()
    for view in _VIEWS:
        views.add_argument(f"--{view}", dest="view", action="store_const", const=view, default="summary")
    parser.add_argument("--flamegraph", metavar="OUT")
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
        if options.flamegraph is not None and options.view not in ("summary", "temporary"):
            raise _captures.Usage(f"--flamegraph does not go with --{options.view}")
        query = {"view": options.view}
        for name, views in _ONLY.items():
            value = getattr(options, "from_" if name == "from" else name)
            if value is None:
                continue
            if options.view not in views:
                names = " or ".join("the summary" if view == "summary" else f"--{view}" for view in views)
                raise _captures.Usage(f"--{name} goes with {names}")
            query[name] = value
    if options.thread is not None:
        query["thread"] = options.thread
    return query


def _print(command, names, query):
    """Print a report of captures; on stderr, a line for each that cannot be read, or not to its end."""
    from heapkeeper import _native

    with _captures.opened(command, names) as files:
        status = 0 if len(files) == len(names) else 1
        if not files:
            return status
        columns, color = terminal(1)
        descriptors = tuple(file.fileno() for _, file in files)
        answer = json.loads(_native.capture_report(descriptors, json.dumps(query), columns, color, os.isatty(2)))
        text = answer.get("text")
        if text is not None:
            # Report and complaints in this order on one terminal.
            _captures.write(command, text.encode(errors="backslashreplace"))
        _captures.complain_all(command, files, answer)
    if answer.get("problem") is not None:
        print(f"{command}: {answer['problem']}", file=sys.stderr)
        return 2
    return 1 if status or any(answer["errors"]) else 0
