"""The command `heapkeeper`: finds the verb and hands over to its module.

Every program started by `heapkeeper run` waits for this module, so options are read by hand: argparse alone would
cost 6 ms of the 25 that start-up may take, and its idea of "the rest belongs to the program" differs from python's.
"""

import sys

_HELP = """\
usage: heapkeeper run [options] SCRIPT [ARG ...] | -m MODULE | -c CODE
       heapkeeper report [options] FILE ...
       heapkeeper lines [options] FILE [SOURCE ...]
       heapkeeper diff [options] BEFORE AFTER
       heapkeeper export --to FORMAT [options] FILE ...
       heapkeeper leak [options] MODULE:CALLABLE
       heapkeeper control PID|SOCKET status|start|stop|mark|fetch

Python's memory manager in Rust: runs a program on its heap and says where the memory went.

verbs:
  run           run a program; `heapkeeper run --help` says how
  report        what a capture says: summary, call tree, table, timeline, leaks, temporary allocations
  lines         memory beside each line of the source
  diff          what grew and what shrank, from one capture to another
  export        what a capture holds, for pprof, speedscope, flamegraph.pl or as Parquet
  leak          call a function again and again; says what grows a call, from which line
  control       ask a running process for its state; start, stop, mark and fetch captures

options:
  -h, --help    show this help
  --version     show the versions of heapkeeper and of this Python

examples:
  heapkeeper run app.py                     a report of the program's memory when it ends
  heapkeeper run --max-heap 512M app.py     MemoryError instead of more than 512 MiB
  heapkeeper report --leaks app.hk          what grew and stayed, from a capture
  HEAPKEEPER=1 gunicorn app:app             any command: its Python processes come along, without a report
"""


def main():
    """Entry point of the console script and of `python -m heapkeeper`. Ends the process, or becomes the program."""
    arguments = sys.argv[1:]
    if not arguments:
        sys.exit(usage_error("heapkeeper", "no verb given", "heapkeeper run SCRIPT"))
    verb = arguments[0]
    if verb == "run":
        from heapkeeper import _run

        sys.exit(_run.main(arguments[1:]))
    if verb in ("report", "lines"):
        from heapkeeper import _report

        sys.exit(_report.main(verb, arguments[1:]))
    if verb == "diff":
        from heapkeeper import _diff

        sys.exit(_diff.main(arguments[1:]))
    if verb == "export":
        from heapkeeper import _export

        sys.exit(_export.main(arguments[1:]))
    if verb == "leak":
        from heapkeeper import _leak

        sys.exit(_leak.main(arguments[1:]))
    if verb == "control":
        from heapkeeper import _control

        sys.exit(_control.main(arguments[1:]))
    if verb in ("-h", "--help"):
        print(_HELP, end="")
    elif verb == "--version":
        import platform

        from heapkeeper import __version__

        print(f"heapkeeper {__version__} ({platform.python_implementation()} {platform.python_version()})")
    elif verb.startswith("-"):
        sys.exit(usage_error("heapkeeper", f"unknown option {verb}", "heapkeeper --help"))
    else:
        sys.exit(usage_error("heapkeeper", f"unknown verb {verb!r}", f"heapkeeper run {verb}"))


def usage_error(command, message, instead):
    """Say on stderr, in one line, what is wrong and what to type instead. Returns the exit status, 2."""
    print(f"{command}: {message}; try: {instead}", file=sys.stderr)
    return 2
