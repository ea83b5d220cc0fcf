"""Reads the programs: what each claims, what it says is true, and which verdict it expects of whom.

A program's docstring is its header:

    A title

    Claim: one sentence.
    True: one or two sentences.
    Expected:
        CPython 2.7, 3.6-3.11, heapkeeper: true
        CPython 3.12+: partly
        MicroPython: not run, as it has no weak references
    Packages: yes                         (runs with claims/requirements.txt in view)
    Options: MicroPython -X heapsize=64k  (of the interpreter)
    Waits for: a capability of ours

An implementation without a version means every version of it. `heapkeeper` is a CPython on our heap; without a line for
it, a program says nothing of our heap. `Rust` is the crate heapkeeper: a row with a line for it has a program in Rust
beside this one, of the same name, and another has none. Exactly one expectation fits each implementation that a program runs on.
"""

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
FOLDER = PROJECT / "claims"

VERDICTS = ("true", "partly", "false", "absent")
NOT_RUN = "not run, as "
_FIELDS = ("Claim", "True", "Expected", "Packages", "Options", "Waits for")
_REQUIRED = ("Claim", "True", "Expected")


class HeaderError(Exception):
    """A program's docstring does not say what it must."""


@dataclass(frozen=True)
class Expectation:
    """One verdict, and the implementation and versions that it is expected of."""

    implementation: str
    lowest: tuple
    highest: tuple
    """Both inclusive, compared as far as they go: (3, 14) is every 3.14."""
    verdict: str
    """One of VERDICTS, or NOT_RUN with a reason."""

    def fits(self, implementation, version):
        return (
            implementation == self.implementation
            and version[: len(self.lowest)] >= self.lowest
            and (not self.highest or version[: len(self.highest)] <= self.highest)
        )


@dataclass(frozen=True)
class Row:
    """One claim and its program."""

    number: int
    path: Path
    title: str
    claim: str
    true: str
    expectations: list
    packages: bool = False
    options: dict = field(default_factory=dict)
    """Arguments for an interpreter, by implementation."""
    waits_for: str = ""

    @property
    def program(self):
        """The program's path as one types it in the project's folder."""
        return self.path.relative_to(PROJECT).as_posix()

    def program_for(self, implementation):
        """The program's path; our crate has one of its own beside the Pythons'."""
        return str(Path(self.program).with_suffix(".rs")) if implementation == "Rust" else self.program

    def speaks_of(self, implementation):
        """Whether any verdict is expected of an implementation."""
        return any(each.implementation == implementation for each in self.expectations)

    def expected(self, implementation, version):
        """What this row says of an implementation: a verdict, NOT_RUN with a reason, or None."""
        found = [each.verdict for each in self.expectations if each.fits(implementation, version)]
        if len(found) > 1:
            raise HeaderError(f"{self.program}: {len(found)} expectations fit {implementation} {version}")
        return found[0] if found else None


def read_all(folder=FOLDER):
    """Every row, in the order of their numbers."""
    return [read(path) for path in sorted(folder.glob("[0-9][0-9]_*.py"))]


def read(path):
    """The row of one program. Raises HeaderError."""
    # The programs' syntax is every Python's: the text is read, nothing is imported.
    header = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    title, _, rest = header.partition("\n")
    fields = _fields(path, rest)
    missing = [name for name in _REQUIRED if not fields.get(name)]
    if missing:
        raise HeaderError(f"{path.name}: the docstring has no {' and no '.join(missing)}")
    implementation, _, arguments = _sentence(fields.get("Options", [])).partition(" ")
    return Row(
        number=int(path.name[:2]),
        path=path,
        title=title,
        claim=_sentence(fields["Claim"]),
        true=_sentence(fields["True"]),
        expectations=[each for line in fields["Expected"] if line for each in _expectations(path, line)],
        packages=bool(fields.get("Packages")),
        options={implementation: arguments.split()} if arguments else {},
        waits_for=_sentence(fields.get("Waits for", [])),
    )


def _fields(path, text):
    """The header's fields as lists of lines."""
    fields = {}
    lines = None
    for line in text.splitlines():
        name, colon, rest = line.partition(":")
        if colon and name in _FIELDS:
            lines = fields.setdefault(name, [])
            line = rest
        elif line and not line.startswith(" "):
            raise HeaderError(f"{path.name}: {line!r} begins no field; the fields are {', '.join(_FIELDS)}")
        if lines is not None:
            lines.append(line.strip())
    return fields


def _sentence(lines):
    return " ".join(line for line in lines if line)


def _expectations(path, line):
    """`CPython 2.7, 3.6-3.11, PyPy: true` as expectations."""
    subjects, colon, verdict = line.partition(": ")
    if not colon or not (verdict in VERDICTS or verdict.startswith(NOT_RUN)):
        raise HeaderError(f"{path.name}: {line!r} ends in none of {', '.join(VERDICTS)}, {NOT_RUN}…")
    implementation = None
    for subject in subjects.split(", "):
        name, _, versions = subject.rpartition(" ") if " " in subject else ("", "", subject)
        if not name and not versions[0].isdigit():
            name, versions = versions, ""
        implementation = name or implementation
        matched = re.fullmatch(r"(?:([\d.]+)(?:(\+)|-([\d.]+))?)?", versions)
        if implementation is None or matched is None:
            raise HeaderError(f"{path.name}: {subject!r} is no implementation with versions like 2.7, 3.6-3.9 or 3.12+")
        first, open_end, last = matched.groups()
        highest = "" if open_end else last or first
        yield Expectation(implementation, _version(first), _version(highest), verdict)


def _version(text):
    return tuple(int(part) for part in text.split(".")) if text else ()
