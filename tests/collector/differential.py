"""Generated programs under CPython's collector and ours, on the same heap: the logs of everything that a program can observe must be equal.

    python tests/collector/differential.py --count 100000        programs of the seeds 0 to 99,999 (`make programs-gc`)
    python tests/collector/differential.py --seed 4711 --show    one program: its operations, its log, and where the logs part
    python tests/collector/differential.py --against cpython     CPython's collector twice: are the programs repeatable?

Programs of a hundred seeds run in one process, one after the other, as their collections would in a long-lived one. Every other hundred begins with
heap and collector installed in the middle of the process, when objects are there already; every other two leave them in the generations. A program
that comes out differently is repeated alone, and made as small as it gets.

Verify mode makes objects of its own for each comparison, which count. So against it, logs are compared of programs whose collections all are asked
for; the programs as they are must only end well, with no difference reported.
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
HUNDRED = 100
# A hundred programs take a second or two.
TIMEOUT_S = 300
SHOWN_LINES = 60

REFERENCE, VERIFY = "cpython", "verify"


@dataclass(frozen=True)
class Setting:
    """How the processes of a hundred are set up; the seed decides."""

    is_late: bool
    """Installed in the middle of the process, not at its start."""
    is_whole: bool
    """What was there before the programs stays in the generations; else it is frozen."""
    pool: int
    """Seed of the objects that are older than the programs."""
    is_bare: bool = False
    """No collection but those that a program asks for, and no counts in the logs."""

    @staticmethod
    def of(seed: int, mode: str) -> Setting:
        hundred = seed // HUNDRED
        return Setting(hundred % 2 == 1, hundred % 4 >= 2, hundred, mode == VERIFY)


@dataclass
class Run:
    """What one process left behind."""

    status: int | str
    stderr: str
    lines: list[list] = field(default_factory=list)
    """The player's lines, without the first."""
    proof: list = field(default_factory=list)
    """The player's first line."""


def play(python: str, mode: str, setting: Setting, arguments: list[str], stdin: str = "") -> Run:
    """Runs player.py under a collector."""
    steering = ("PYTHON", "HEAPKEEPER", "LD_PRELOAD")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    environment |= {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8"}
    command = [python, str(HERE / "player.py"), "--pool", str(setting.pool)]
    # The sampler makes frame objects now and then, which would count.
    if setting.is_late:
        command += ["--install", mode]
    else:
        environment["HEAPKEEPER"] = f"gc={mode},profile=off"
    command += ["--whole"] * setting.is_whole + ["--bare"] * setting.is_bare
    try:
        answer = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True, input=stdin, timeout=TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return Run(f"still running after {TIMEOUT_S} s", "")
    first, *others = [json.loads(line) for line in answer.stdout.splitlines() if line.endswith("]")] or [[]]
    return Run(answer.returncode, answer.stderr, others, first)


def trouble(run: Run, mode: str) -> str | None:
    """Why a run proves nothing or is wrong by itself."""
    if run.status != 0:
        return f"under {mode}: exit status {run.status}: {run.stderr[-2000:]}"
    if run.proof != ["heapkeeper", mode]:
        return f"under {mode}: the programs ran on {run.proof}: {run.stderr[-2000:]}"
    if run.stderr:
        return f"under {mode}: on stderr: {run.stderr[-2000:]}"
    return None


def both(python: str, mode: str, setting: Setting, arguments: list[str], stdin: str = "") -> tuple[Run, Run]:
    return play(python, REFERENCE, setting, arguments, stdin), play(python, mode, setting, arguments, stdin)


def difference(reference: Run, ours: Run, mode: str) -> tuple[int, str] | None:
    """Where two runs of the same programs part: how many programs came out alike, and what happened then."""
    for index, (expected, found) in enumerate(zip(reference.lines, ours.lines, strict=False)):
        if expected[:2] != found[:2]:
            return index, "the logs differ"
    wrong = trouble(reference, REFERENCE) or trouble(ours, mode)
    if wrong or len(reference.lines) != len(ours.lines):
        return min(len(reference.lines), len(ours.lines)), wrong or "one of the two ended early"
    return None


@dataclass(frozen=True)
class Failure:
    """A seed whose program comes out differently."""

    seed: int
    reason: str


def compare(python: str, mode: str, first: int, last: int) -> Failure | None:
    """The programs of some seeds of one hundred, both sides; the first that differs."""
    setting = Setting.of(first, mode)
    runs = both(python, mode, setting, [str(first), str(last)])
    found = difference(*runs, mode)
    if found and isinstance(runs[0].status, int) and runs[0].status < 0 and found[0] == len(runs[0].lines):
        # CPython's own collector crashes now and then, on its own heap as well: 3.12.1 does with the seeds 13800 to 13851.
        crashed = first + found[0]
        print(f"seed {crashed}: CPython itself ends with signal {-runs[0].status}; left out", flush=True)
        return compare(python, mode, crashed + 1, last) if crashed < last else None
    if found and is_by_order(python, mode, setting, first, first + found[0]):
        reordered = first + found[0]
        print(f"seed {reordered}: differs by the order of freeing inside a full collection; left out", flush=True)
        return compare(python, mode, reordered + 1, last) if reordered < last else None
    if found is None and mode == VERIFY:
        run = play(python, mode, replace(setting, is_bare=False), [str(first), str(last)])
        found = (len(run.lines), reason) if (reason := trouble(run, mode)) else None
    return None if found is None else Failure(min(first + found[0], last), found[1])


def is_by_order(python: str, mode: str, setting: Setting, first: int, seed: int) -> bool:
    """Whether the program of a seed, which differs behind those from `first` on, does so by no more than the order in which objects were freed."""
    from player import differ_by_order

    runs = both(python, mode, setting, ["--logs", "--unsorted", str(first), str(seed)])
    if any(len(run.lines) <= seed - first for run in runs):
        return False
    return differ_by_order(*(run.lines[seed - first][2] for run in runs))


def hundreds(start: int, count: int) -> list[tuple[int, int]]:
    """First and last seeds of the processes for `count` seeds from `start` on."""
    end = start + count
    cuts = [start, *range((start // HUNDRED + 1) * HUNDRED, end, HUNDRED), end]
    return [(first, following - 1) for first, following in itertools.pairwise(cuts)]


def smaller(python: str, mode: str, setting: Setting, operations: list) -> list:
    """Leaves out operations as long as the two sides still differ (Zeller's ddmin)."""

    def differs(candidate: list) -> bool:
        runs = both(python, mode, setting, ["--operations"], json.dumps(candidate))
        return difference(*runs, mode) is not None

    parts = 2
    while len(operations) > 1:
        size = max(1, len(operations) // parts)
        for position in range(0, len(operations), size):
            candidate = operations[:position] + operations[position + size :]
            if differs(candidate):
                operations, parts = candidate, max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(len(operations), parts * 2)
    return operations


def parting(expected: list[str], found: list[str]) -> str:
    """Where two logs part, with what led there."""
    lines = difflib.unified_diff(expected, found, REFERENCE, "ours", lineterm="", n=8)
    return "\n".join(line[:400] for _, line in zip(range(SHOWN_LINES), lines, strict=False))


def explain(python: str, mode: str, seed: int, *, show: bool) -> str:
    """What there is to say of a seed: its smallest differing program and where the logs part; with `show`, of any seed."""
    import programs

    setting = Setting.of(seed, mode)
    told = [f"seed {seed}: {setting}"]
    operations = programs.program(seed)
    alone = both(python, mode, setting, ["--logs", str(seed), str(seed)])
    if difference(*alone, mode) is not None:
        operations = smaller(python, mode, setting, operations)
        runs = both(python, mode, setting, ["--logs", "--operations"], json.dumps(operations))
        told += [f"{len(operations)} operations that differ", programs.text(operations)]
    else:
        first = seed - seed % HUNDRED
        runs = both(python, mode, setting, ["--logs", str(first), str(seed)])
        if difference(*runs, mode) is None:
            told.append("both sides log the same")
            if show:
                told += [programs.text(operations), *alone[0].lines[0][2]]
            return "\n".join(told)
        told += [f"differs only after the programs from {first} on", programs.text(operations)]
    position, reason = difference(*runs, mode)
    told.append(reason)
    if position < min(len(run.lines) for run in runs):
        told.append(parting(runs[0].lines[position][2], runs[1].lines[position][2]))
    return "\n".join(told)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="one with heapkeeper (default: this)")
    parser.add_argument("--against", default="heapkeeper", metavar="MODE", help="cpython, heapkeeper or verify")
    parser.add_argument("--start", type=int, default=0, metavar="SEED")
    parser.add_argument("--count", type=int, default=400, metavar="N", help="programs (default: 400)")
    parser.add_argument("--seed", type=int, metavar="SEED", help="this program alone")
    parser.add_argument("--show", action="store_true", help="with --seed: print the program and its log in any case")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    parser.add_argument("--most", type=int, default=5, metavar="N", help="stop after so many failures (default: 5)")
    options = parser.parse_args()
    sys.path.insert(0, str(HERE))

    if options.seed is not None:
        failure = compare(options.python, options.against, options.seed - options.seed % HUNDRED, options.seed)
        print(explain(options.python, options.against, options.seed, show=options.show))
        return 1 if failure else 0

    chunks = hundreds(options.start, options.count)
    failures: list[Failure] = []
    began = said = time.monotonic()
    done = 0
    with ThreadPoolExecutor(max(1, options.jobs)) as workers:
        running = [workers.submit(compare, options.python, options.against, *chunk) for chunk in chunks]
        for (first, last), future in zip(chunks, running, strict=True):
            failure = future.result()
            done += last - first + 1
            if failure:
                failures.append(failure)
                print(f"seed {failure.seed}: {failure.reason}", flush=True)
                if len(failures) == options.most:
                    for each in running:
                        each.cancel()
                    break
            if time.monotonic() - said > 30:
                said = time.monotonic()
                print(f"{done:,} of {options.count:,} programs, {said - began:.0f} s", flush=True)
    for failure in failures:
        print(explain(options.python, options.against, failure.seed, show=False), flush=True)
    print(f"{done:,} programs under {REFERENCE} and {options.against}: {len(failures)} processes differ")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
