"""`heapkeeper export`: what captures hold, by call stack, in the formats of other tools."""

import sys

from heapkeeper import _captures

_COMMAND = "heapkeeper export"

_HELP = """\
usage: heapkeeper export --to FORMAT [options] FILE ...

Writes what captures hold, by call stack, for another tool to read. Several captures add up.

formats:
  pprof             go tool pprof, Pyroscope, Parca: live and allocated bytes and blocks
  speedscope        https://www.speedscope.app: bytes, blocks, bytes of each thread
  collapsed         flamegraph.pl, inferno: a line of frames and bytes for each stack
  parquet           DuckDB, pandas, Polars: a row for each stack

options:
  --to FORMAT       one of these
  -o, --output OUT  the file to write                                  (default: standard output)
  --at MOMENT       peak, end, or seconds since the start: what was live then     (default: peak)
  --temporary       what was allocated and freed again until then                  (default: end)
  --thread NAME     only what this thread allocated
  -h, --help        show this help
A FILE of - is standard input.

examples:
  heapkeeper export --to speedscope -o app.speedscope.json app.hk
  heapkeeper export --to pprof -o app.pb.gz app.hk && go tool pprof -http : app.pb.gz
  heapkeeper export --to parquet -o fleet.parquet worker-*.hk
  heapkeeper export --to collapsed app.hk | flamegraph.pl >app.svg
"""

# Each with whether its files are nothing for a terminal.
_FORMATS = {"pprof": True, "speedscope": False, "collapsed": False, "parquet": True}


def main(arguments):
    """Run the verb. Returns an exit status."""
    options = _captures.Options()
    options.add_argument("file", metavar="FILE", nargs="+")
    options.add_argument("--to", metavar="FORMAT", choices=_FORMATS, required=True)
    options.add_argument("-o", "--output")
    options.add_argument("--at")
    options.add_argument("--temporary", action="store_true")
    options.add_argument("--thread")
    return _captures.run(_COMMAND, _HELP, options, arguments, _export)


def _export(asked):
    if _FORMATS[asked.to] and asked.output in (None, "-") and sys.stdout.isatty():
        raise _captures.Usage(f"{asked.to} is nothing for a terminal, and no -o OUT given")
    of = _captures.moment_and_measure(asked.at, asked.temporary)
    content, status = _captures.stacks(_COMMAND, asked.to, asked.file, thread=asked.thread, **of)
    if content is None:
        return status
    return _captures.write(_COMMAND, content, asked.output, asked.file) or status
