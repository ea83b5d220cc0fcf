"""Verdicts of test cases: read from a recorder's file, compared between two runs, settled by repetition.

A case that ran several times in a module has several verdicts; they are compared as a sorted list. The process itself is a case too, named
`<process>`, whose verdict is how it ended.
"""

from __future__ import annotations

import signal
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

PROCESS = "<process>"
ABSENT = "did not run"
FAILURES = "exit 2 (failures)"
NO_TESTS = "exit 4 (no tests ran)"

# Of several notes on one execution of a case (failing subtests, a failing tearDown), the gravest counts.
GRAVITY = ("pass", "expected", "skip", "unexpected", "fail", "error")

Verdicts = dict[str, str]
"""A case's id to its verdict: `pass`, `skip`, …, or several joined by `+`."""


@dataclass
class Outcome:
    """One run of one module."""

    verdicts: Verdicts
    reasons: dict[str, str] = field(default_factory=dict)
    """Why a case did not pass, as its exception or skip says."""
    seconds: float = 0.0


@dataclass
class Difference:
    """A case whose verdict is not the same on both sides."""

    case: str
    plain: list[str]
    """Its verdicts under plain python: the first run, then the repetitions."""
    ours: list[str]
    reason: str
    """What our side said."""

    @property
    def is_settled(self) -> bool:
        """Whether repetition showed both sides to behave alike: the case differs between runs, not between allocators."""
        return len(self.ours) > 1 and set(self.ours[1:]) <= set(self.plain)

    def as_dict(self) -> dict:
        return asdict(self)


def ending(code: int, timed_out: bool) -> str:
    """How a process ended, in words."""
    if timed_out:
        return "killed after its time"
    if code < 0:
        return signal.Signals(-code).name
    return {0: "exit 0", 2: FAILURES, 3: "exit 3 (environment changed)", 4: NO_TESTS}.get(code, f"exit {code}")


def read(path: Path) -> tuple[Verdicts, dict[str, str]]:
    """The verdicts and reasons that recorder.py noted."""
    finished: dict[str, list[str]] = defaultdict(list)
    running: dict[str, str | None] = {}
    reasons: dict[str, str] = {}
    text = path.read_text(errors="replace") if path.exists() else ""
    for line in text.splitlines():
        parts = line.split("\t", 2)
        if len(parts) < 3:
            continue
        verdict, case, reason = parts
        if verdict == "start":
            if case in running:
                finished[case].append(running[case] or "did not finish")
            running[case] = None
            continue
        if case not in running:
            finished[case].append(verdict)
        elif running[case] is None or GRAVITY.index(verdict) > GRAVITY.index(running[case] or "pass"):
            running[case] = verdict
        if reason:
            reasons[case] = reason
    for case, last in running.items():
        finished[case].append(last or "did not finish")
    return {case: "+".join(sorted(each)) for case, each in finished.items()}, reasons


def compare(plain: Outcome, ours: Outcome) -> list[Difference]:
    """Every case whose verdict differs, the process first."""
    differences = []
    for case in sorted(plain.verdicts.keys() | ours.verdicts.keys(), key=lambda each: (each != PROCESS, each)):
        before, after = plain.verdicts.get(case, ABSENT), ours.verdicts.get(case, ABSENT)
        if before != after:
            reason = ours.reasons.get(case) or plain.reasons.get(case, "")
            differences.append(Difference(case, [before], [after], reason))
    return differences


@dataclass(frozen=True)
class Known:
    """A difference whose cause was found: a row of known-differences.tsv."""

    version: str
    case: str
    cause: str

    def explains(self, version: str, case: str) -> bool:
        return self.case == case and self.version in ("*", version, ".".join(version.split(".")[:2]))


def causes(version: str, differences: list[dict], known: list[Known]) -> list[str | None]:
    """The cause of each difference of one module, as far as the table knows it.

    That the process ended with failures is no difference of its own if the cases that failed are known.
    """
    found = [next((row.cause for row in known if row.explains(version, each["case"])), None) for each in differences]
    for index, each in enumerate(differences):
        others = [cause for other, cause in zip(differences, found, strict=True) if other["case"] != PROCESS]
        if each["case"] == PROCESS and set(each["ours"]) == {FAILURES} and others and all(others):
            found[index] = "The cases below failed."
    return found


def read_known(path: Path) -> list[Known]:
    """The rows of known-differences.tsv: version (`3.12`, `3.12.1` or `*`), case, cause; `#` begins a comment."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("\t")]
        if len(parts) != 3 or not all(parts):
            raise SystemExit(f"{path}:{number}: a row is VERSION, CASE and CAUSE separated by tabs")
        rows.append(Known(*parts))
    return rows
