"""Generated programs, each in one process under CPython's tracemalloc and in one under ours: what is live at the end and the peak must agree to the
byte, and so must each line that makes no objects of free-listed types.

    python tests/exact/agreement.py --count 4000            programs of the seeds 0 to 3,999 (`make programs-exact`)
    python tests/exact/agreement.py --seed 4711 --show      one program: its text, and where the two part

Fifty programs share a process, and begin with empty free lists each. Which fifty decides how: on our heap from the start or from the middle of the
process on, with threads or without, with automatic collections or without.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import sources

HERE = Path(__file__).resolve().parent
FIFTY = 50
TIMEOUT_S = 300

# Types whose objects CPython keeps for reuse when they die. A new object that is such an old one makes no call to an allocator: what allocated the
# block keeps it, where tracemalloc is told of the new one. From 3.13 on we are told as well. Found out, and checked, by test_free_lists.py.
FREE_LISTED = {
    (3, 10): {"float", "tuple", "list", "dict", "frame", "slice", "context", "async_generator_asend", "MemoryError"},
    (3, 11): {"float", "tuple", "list", "dict", "slice", "context", "async_generator_asend", "MemoryError"},
    (3, 12): {"float", "tuple", "list", "dict", "slice", "context", "async_generator_asend", "MemoryError"},
    (3, 13): set(),
}[sys.version_info[:2]]


@dataclass(frozen=True)
class Setting:
    """How the processes of fifty programs are set up."""

    is_late: bool
    """On our heap from the middle of the process on."""
    threads: bool
    collects: bool

    @staticmethod
    def of(seed: int) -> Setting:
        fifty = seed // FIFTY
        return Setting(fifty % 2 == 1, fifty % 4 == 2, fifty % 8 >= 4)

    def program(self, seed: int) -> sources.Program:
        return sources.Program(seed, threads=self.threads, collects=self.collects)


def count(side: str, setting: Setting, first: int, last: int) -> list[list]:
    """What counted.py says of some programs. Raises RuntimeError where it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HEAPKEEPER"))}
    environment |= {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    if not setting.is_late:
        # What a collection makes for itself is the collector's own: on both sides it is CPython's.
        environment["HEAPKEEPER"] = "profile=off," + ("allocator=cpython" if side == "standard" else "gc=cpython")
    options = ["--late"] * setting.is_late + ["--threads"] * setting.threads + ["--collects"] * setting.collects
    command = [sys.executable, str(HERE / "counted.py"), side, *options, str(first), str(last)]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    if answer.returncode or answer.stderr:
        raise RuntimeError(f"{side}, exit status {answer.returncode}: {answer.stderr[-2000:]}")
    return [json.loads(line) for line in answer.stdout.splitlines()]


def compare(first: int, last: int) -> list[str]:
    """Where the programs of some seeds of one fifty come out differently, in a line each."""
    setting = Setting.of(first)
    try:
        standard, ours = (count(side, setting, first, last) for side in ("standard", "ours"))
    except RuntimeError as error:
        return [f"seeds {first} to {last}: {error}"]
    found = []
    for (seed, *expected, theirs), (same, *figures, mine) in zip(standard, ours, strict=True):
        assert seed == same
        for name, one, other in zip(("live", "peak"), expected, figures, strict=True):
            if one != other:
                found.append(f"seed {seed}: {name} bytes: {one:,} under tracemalloc, {other:,} under ours")
        found += lines_that_differ(seed, setting.program(seed), dict(theirs), dict(mine))
    return found


def lines_that_differ(seed, program, theirs, ours):
    text = program.text.splitlines()
    for number, types in program.types.items():
        if not FREE_LISTED.isdisjoint(types) or (FREE_LISTED and "everything" in types):
            continue
        if theirs.get(number) != ours.get(number):
            amounts = f"{theirs.get(number)} under tracemalloc, {ours.get(number)} under ours (bytes, blocks)"
            yield f"seed {seed}, line {number}: {amounts}: {text[number - 1].strip()}"


def fifties(start: int, count: int) -> list[tuple[int, int]]:
    """First and last seeds of the processes for `count` seeds from `start` on."""
    end = start + count
    cuts = [start, *range((start // FIFTY + 1) * FIFTY, end, FIFTY), end]
    return [(first, following - 1) for first, following in itertools.pairwise(cuts)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--start", type=int, default=0, metavar="SEED")
    parser.add_argument("--count", type=int, default=400, metavar="N", help="programs (default: 400)")
    parser.add_argument("--seed", type=int, metavar="SEED", help="this program alone")
    parser.add_argument("--show", action="store_true", help="with --seed: print the program")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    options = parser.parse_args()
    if options.seed is not None:
        if options.show:
            print(Setting.of(options.seed).program(options.seed).text)
        found = compare(options.seed, options.seed)
        print("\n".join(found) or "they agree")
        return 1 if found else 0
    began = time.monotonic()
    failures = 0
    with ThreadPoolExecutor(max(1, options.jobs)) as workers:
        for found in workers.map(lambda fifty: compare(*fifty), fifties(options.start, options.count)):
            failures += len(found)
            if found:
                print("\n".join(found), flush=True)
    print(f"{options.count:,} programs, {failures} differences, {time.monotonic() - began:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
