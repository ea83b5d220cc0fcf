"""The command `heapkeeper`: finds the verb and hands over to its module.

Every program started by `heapkeeper run` waits for this module, so options are read by hand: argparse alone would
cost 6 ms of the 25 that start-up may take, and its idea of "the rest belongs to the program" differs from python's.
"""

import errno
import os
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
    verb, *arguments = sys.argv[1:] or [""]
    try:
        status = _follow(verb, arguments)
        if sys.__stdout__ is not None and not sys.__stdout__.closed:
            # Here an error can still be told; when the interpreter does it, it is a traceback.
            sys.__stdout__.flush()
    except OSError as error:
        if error.filename is not None:  # Not of standard output.
            raise
        status = _unwritten(verb, error)
    sys.exit(status)


def _follow(verb, arguments):
    """Run a verb. Returns an exit status; OSError says that standard output cannot be written."""
    if not verb:
        return usage_error("heapkeeper", "no verb given", "heapkeeper run SCRIPT")
    if verb == "run":
        from heapkeeper import _run

        return _run.main(arguments)
    if verb in ("report", "lines"):
        from heapkeeper import _report

        return _report.main(verb, arguments)
    if verb == "diff":
        from heapkeeper import _diff

        return _diff.main(arguments)
    if verb == "export":
        from heapkeeper import _export

        return _export.main(arguments)
    if verb == "leak":
        from heapkeeper import _leak

        return _leak.main(arguments)
    if verb == "control":
        from heapkeeper import _control

        return _control.main(arguments)
    if verb in ("-h", "--help"):
        print(_HELP, end="", file=output())
        return 0
    if verb == "--version":
        import platform

        from heapkeeper import __version__

        text = f"heapkeeper {__version__} ({platform.python_implementation()} {platform.python_version()})"
        print(text, file=output())
        return 0
    if verb.startswith("-"):
        return usage_error("heapkeeper", f"unknown option {verb}", "heapkeeper --help")
    return usage_error("heapkeeper", f"unknown verb {verb!r}", f"heapkeeper run {verb}")


def output():
    """Standard output. Raises OSError where the process was started without one."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, "it is closed")
    return sys.stdout


def _unwritten(verb, error):
    """Standard output cannot be written. Returns an exit status; a reader that has gone away ends the process."""
    if sys.__stdout__ is not None:
        # What is in its buffer would be tried once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno())
    if isinstance(error, BrokenPipeError):
        import signal

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    command = "heapkeeper" if verb.startswith("-") else f"heapkeeper {verb}"
    print(f"{command}: standard output: {error.strerror or error}", file=sys.stderr)
    # `leak` says with a 1 that something grows.
    return 2 if verb == "leak" else 1


def usage_error(command, message, instead):
    """Say on stderr, in one line, what is wrong and what to type instead. Returns the exit status, 2."""
    print(f"{command}: {message}; try: {instead}", file=sys.stderr)
    return 2
