"""`heapkeeper diff`: what grew and what shrank, from one capture to another or from one moment to another."""

from heapkeeper import _captures

_COMMAND = "heapkeeper diff"

_HELP = """\
usage: heapkeeper diff [options] BEFORE AFTER
       heapkeeper diff --at MOMENT,MOMENT [options] FILE

Compares two captures line by line, of a program before and after a change to it; or one capture
at two moments.

options:
  --at MOMENT       peak, end, or seconds since the start: what was live then; two of them
                    with a comma between, for before and after                    (default: peak)
  --thread NAME     only what this thread allocated
  --flamegraph OUT  a flame graph of the change too, as an HTML file: red grew, blue shrank
  -h, --help        show this help

examples:
  heapkeeper diff monday.hk tuesday.hk
  heapkeeper diff --at 60,end app.hk
  heapkeeper diff --flamegraph change.html before.hk after.hk
"""


def main(arguments):
    """Run the verb. Returns an exit status."""
    options = _captures.Options()
    options.add_argument("file", metavar="FILE", nargs="+")
    options.add_argument("--at", default="peak")
    options.add_argument("--thread")
    options.add_argument("--flamegraph", metavar="OUT")
    return _captures.run(_COMMAND, _HELP, options, arguments, _diff)


def _diff(asked):
    at = asked.at.split(",")
    if len(at) > 2:
        raise _captures.Usage(f"--at {asked.at}: more than two moments")
    if len(asked.file) > 2:
        raise _captures.Usage("more than two captures")
    if len(asked.file) == 1 and len(at) == 1:
        raise _captures.Usage("one capture is compared at two moments, --at MOMENT,MOMENT, or two captures")
    *before, after = asked.file
    query = {"at": at, "thread": asked.thread}
    text, status = _captures.stacks(_COMMAND, "diff", [after], before, **query)
    if text is None:
        return status
    if asked.flamegraph is not None:
        page, _ = _captures.stacks(_COMMAND, "difference", [after], before, **query)
        status = _captures.write(_COMMAND, page, asked.flamegraph, asked.file) or status
    # Whoever has the page sent to standard output wants nothing else there.
    if asked.flamegraph != "-":
        status = _captures.write(_COMMAND, text) or status
    return status
