"""Which Python processes a run started, and which of them ran on our heap.

Joins the two files that a run leaves behind: the records of starts.c (every interpreter that began) and heapkeeper's own log (those that came
along). An interpreter that is in the first and not in the second is named with the reason.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).with_name("starts.c")

# Options that take their value from the next argument, if it is not attached.
WITH_VALUE = "cmWX"

OTHER = "ended before its site module ran: a refused option, a kill"


@dataclass(frozen=True)
class Start:
    """One interpreter that began."""

    pid: int
    has_variable: bool
    """HEAPKEEPER was in its environment."""
    argv: tuple[str, ...]


@dataclass
class Census:
    """The Python processes of one run."""

    started: int = 0
    on_heap: int = 0
    forked: int = 0
    """Children of a fork that ran on as they were: they share their parent's allocator and are not in `started`."""
    absent: dict[str, int] = field(default_factory=dict)
    """Reason to number, of those not on our heap."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Reason to some command lines."""


def build(folder: Path) -> Path:
    """Compiles starts.c into a library to preload."""
    library = folder / "starts.so"
    if not library.exists() or library.stat().st_mtime < SOURCE.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = library.with_suffix(f".{os.getpid()}")
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", unfinished, SOURCE, "-ldl", "-lpthread"], check=True)
        unfinished.replace(library)
    return library


def read_starts(path: Path) -> tuple[list[Start], int]:
    """The interpreters that began, and how many forked children did not go on to become another program."""
    starts: list[Start] = []
    forked: Counter[int] = Counter()
    text = path.read_text(errors="replace") if path.exists() else ""
    for line in text.splitlines():
        kind, *fields = line.split("\t")
        if kind == "fork" and len(fields) == 2:
            forked[int(fields[0])] += 1
        elif kind in ("start", "exec") and len(fields) == 4:
            pid = int(fields[0])
            starts.append(Start(pid, fields[1] == "1", tuple(fields[3].split("\x1f"))))
            forked[pid] -= 1
    return starts, sum(count for count in forked.values() if count > 0)


def read_log(path: Path) -> tuple[Counter[int], Counter[int]]:
    """Process ids in heapkeeper's log: those on our heap, and those that stayed with CPython's allocator."""
    ours: Counter[int] = Counter()
    stepped_back: Counter[int] = Counter()
    text = path.read_text(errors="replace") if path.exists() else ""
    for line in text.splitlines():
        parts = line.split("\t")
        if len(parts) >= 3 and parts[0].isdigit():
            (ours if parts[2] == "heapkeeper" else stepped_back)[int(parts[0])] += 1
    return ours, stepped_back


def options(argv: tuple[str, ...]) -> list[str]:
    """The interpreter's own options on a command line, `-IS` taken apart, up to the script, `-c` or `-m`."""
    found = []
    arguments = iter(argv[1:])
    for argument in arguments:
        if argument in ("-", "--") or not argument.startswith("-"):
            break
        if argument.startswith("--"):
            found.append(argument.split("=")[0])
            continue
        for position, letter in enumerate(argument[1:], 1):
            found.append(f"-{letter}")
            if letter in WITH_VALUE:
                if position == len(argument) - 1:
                    next(arguments, None)
                break
        if found[-1] in ("-c", "-m"):
            break
    return found


def reason_absent(start: Start, python: Path) -> str:
    """Why an interpreter did not come along."""
    flags = options(start.argv)
    if not start.has_variable:
        return "started with an environment without HEAPKEEPER"
    if "-S" in flags:
        return "-S: no site, no .pth files"
    if {"-V", "-h", "-?", "--version", "--help", "--help-env", "--help-xoptions", "--help-all"} & set(flags):
        return "prints its version or help and ends"
    program = start.argv[0] if start.argv else ""
    if os.path.dirname(program) != str(python.parent):
        return "argv[0] leads to an interpreter or environment without heapkeeper"
    return OTHER


def census(starts_file: Path, log_file: Path, python: Path) -> Census:
    """Joins the two files of one run under heapkeeper."""
    starts, forked = read_starts(starts_file)
    ours, stepped_back = read_log(log_file)
    result = Census(forked=forked)
    absent: Counter[str] = Counter()
    # One process id may have begun several times (os.exec): the ones with a reason to be absent are the absent ones.
    for start in sorted(starts, key=lambda each: reason_absent(each, python) != OTHER):
        if ours[start.pid] > 0:
            ours[start.pid] -= 1
            result.on_heap += 1
            continue
        if stepped_back[start.pid] > 0:
            stepped_back[start.pid] -= 1
            reason = "stepped back to CPython's allocator"
        else:
            reason = reason_absent(start, python)
        absent[reason] += 1
        result.examples.setdefault(reason, [])
        flags = options(start.argv)
        command = " ".join([*flags, *(last for last in start.argv[-1:] if last not in flags)])[:160]
        if command not in result.examples[reason]:
            result.examples[reason].append(command)
    # Started by a process that had itself lost the library, yet with HEAPKEEPER: only our log knows them. A process that is known logs
    # once more for each subinterpreter, which runs site again.
    seen = {start.pid for start in starts}
    result.on_heap += sum(pid not in seen for pid in ours)
    result.absent = dict(absent)
    result.started = result.on_heap + sum(absent.values())
    return result
