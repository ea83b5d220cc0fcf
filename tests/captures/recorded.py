"""Captures as Arrow's own reader shows them: nothing here is heapkeeper's but the names of the columns.

Line tables are read by the interpreter that runs the tests, which must be the one that wrote them.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import nanoarrow
from nanoarrow._utils import NanoarrowException

NONE, TRUNCATED = 2**32 - 1, 2**32 - 2


@dataclass
class Site:
    """A stack in a thread, with its figures at the end."""

    frames: list[tuple[str, str, int]]
    """Function, file without folders, line; innermost first."""
    truncated: bool
    thread: str
    live_bytes: int = 0
    live_blocks: int = 0
    peak_bytes: int = 0
    peak_blocks: int = 0
    total_bytes: int = 0
    total_blocks: int = 0

    def has(self, function, line=None):
        """Whether a function is in the stack, at a line."""
        return any(name.rpartition(".")[2] == function and line in (None, number) for name, _, number in self.frames)


@dataclass
class Recorded:
    """A capture."""

    header: dict[str, str]
    ticks: list[dict] = field(default_factory=list)
    sites: list[Site] = field(default_factory=list)

    @property
    def pid(self):
        return int(self.header["pid"])

    @property
    def ended(self):
        """Whether the process came to its end in an orderly way."""
        return bool(self.ticks) and self.ticks[-1]["last"]

    def sum(self, figure, function, line=None, thread=None):
        """A figure of all sites with a function in their stacks, at a line."""
        matching = [site for site in self.sites if site.has(function, line) and thread in (None, site.thread)]
        return sum(getattr(site, figure) for site in matching)


def read(path):
    """A capture from a file."""
    with open(path, "rb") as file:
        stream = nanoarrow.ArrayStream.from_readable(file)
        header = {
            key.decode().removeprefix("heapkeeper."): text.decode() for key, text in stream.schema.metadata.items()
        }
        capture = Recorded(header)
        try:
            for batch in stream:
                capture.ticks += batch.to_pylist()
        except NanoarrowException:
            pass  # It ends in the middle of a tick.
    _fill(capture)
    return capture


def _fill(capture):
    every = {name: [row for tick in capture.ticks for row in tick[name]] for name in ("codes", "nodes", "sites")}
    threads = {row["thread"]: row["name"] for tick in capture.ticks for row in tick["threads"]}
    for site in every["sites"]:
        frames = []
        node = site["node"]
        while node not in (NONE, TRUNCATED):
            row = every["nodes"][node]
            code = every["codes"][row["code"]]
            frames.append((code["function"], Path(code["file"]).name, line(code, row["offset_bytes"])))
            node = row["parent"]
        capture.sites.append(Site(frames, node == TRUNCATED, threads.get(site["thread"], str(site["thread"]))))
    for tick in capture.ticks:
        for value in tick["values"]:
            site = capture.sites[value["site"]]
            for figure in ("live_bytes", "live_blocks", "peak_bytes", "peak_blocks", "total_bytes", "total_blocks"):
                setattr(site, figure, value[figure])


def line(code, offset_bytes):
    """The line of an instruction, as this interpreter reads a code object's table."""
    if not code["line_table"]:
        return code["first_line"]
    instructions = b"\x09\x00" * (max(offset_bytes, 0) // 2 + 1)
    known = {"co_code": instructions, "co_firstlineno": code["first_line"], "co_linetable": code["line_table"]}
    made = (lambda: None).__code__.replace(**known)
    if offset_bytes < 0:
        return code["first_line"]
    return next((number for start, end, number in made.co_lines() if start <= offset_bytes < end), -1)


def command(capture):
    """The arguments of the process."""
    return json.loads(capture.header["command"])


def pid_in(path):
    """The last number in a capture's name."""
    return int(re.findall(r"\d+", path.name)[-1])
