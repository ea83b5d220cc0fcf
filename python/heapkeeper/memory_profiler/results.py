"""What was measured, printed as memory_profiler prints it."""

import linecache
import logging
import sys

__all__ = ["LogFile", "show_results"]

_ROW = "{0:>6} {1:>12} {2:>12}  {3:>10}   {4:<}"


def show_results(prof, stream=None, precision=1):
    """Print a table of lines for each function that a LineProfiler measured.

    stream: **sys.stdout**. precision: digits after the point.
    """
    if stream is None:
        stream = sys.stdout
    header = _ROW.format("Line #", "Mem usage", "Increment", "Occurrences", "Line Contents")
    for filename, lines in prof.code_map.items():
        source = linecache.getlines(filename)
        stream.write(f"Filename: {filename}\n\n")
        stream.write(header + "\n")
        stream.write("=" * len(header) + "\n")
        for line, measured in lines:
            text = source[line - 1] if line <= len(source) else "\n"
            if measured is None:
                row = _ROW.format(line, "", "", "", text)
            else:
                increment, memory, occurrences = measured
                row = _ROW.format(line, _mib(memory, precision), _mib(increment, precision), occurrences, text)
            stream.write(row)
        stream.write("\n\n")


def _mib(figure, precision):
    # The sum turns -0.0 into 0.0.
    return f"{round(figure, precision) + 0.0:{precision + 4}.{precision}f} MiB"


class LogFile:
    """A stream that hands what is written to a logger.

    name: the logger's. reportIncrementFlag: of the lines of a table, log only those with an increment above 0.
    """

    def __init__(self, name=None, reportIncrementFlag=False):
        self.logger = logging.getLogger(name)
        self.reportIncrementFlag = reportIncrementFlag

    def write(self, msg, level=logging.INFO):
        if not self.reportIncrementFlag or _has_increment(msg) or "Filename:" in msg or "Line Contents" in msg:
            self.logger.log(level, msg)

    def flush(self):
        for handler in self.logger.handlers:
            handler.flush()


def _has_increment(row):
    _, unit, rest = row.partition("MiB")
    try:
        return bool(unit) and float(rest.split("MiB")[0]) > 0
    except ValueError:
        return False
