"""Programs that profile themselves line by line."""

import re
import textwrap
from dataclasses import dataclass

import pytest


@dataclass
class Line:
    """A row of a table."""

    number: int
    memory_mib: float | None
    increment_mib: float | None
    occurrences: int | None
    text: str


# As wide as memory_profiler prints it, to the column.
ROW = re.compile(r"([ \d]{6}) ([ \d.-]{8,} MiB| {12}) ([ \d.-]{8,} MiB| {12})  ([ \d]{10})   (.*)")
HEADER = "Line #    Mem usage    Increment  Occurrences   Line Contents"


def tables(text):
    """The tables in a program's output, as lists of Lines."""
    found = []
    rest = iter(text.split("\n"))
    for line in rest:
        if not line.startswith("Filename: "):
            continue
        assert next(rest) == ""
        assert next(rest) == HEADER
        assert next(rest) == "=" * len(HEADER)
        table = []
        for line in rest:
            if not line:
                break
            number, memory, increment, occurrences, source = ROW.fullmatch(line).groups()
            if memory.strip():
                mib = [float(figure.removesuffix("MiB")) for figure in (memory, increment)]
                table.append(Line(int(number), *mib, int(occurrences), source))
            else:
                table.append(Line(int(number), None, None, None, source))
        found.append(table)
    return found


@pytest.fixture
def profiled(driver):
    """Runs a program that imports what it needs; returns its tables, each as a dict from source text to Line."""

    def run(program, *command, status=0):
        driver.write("program.py", textwrap.dedent(program))
        outcome = driver.python(*(command or ("program.py",)))
        assert (outcome.status, outcome.stderr) == (status, "")
        return [{line.text.strip(): line for line in table} for table in tables(outcome.stdout)]

    return run
