"""black over an interpreter's standard library, plain and on our heap: the same files, byte by byte.

The tests run a part of it; tests/cpython/run.py runs all of it in its long form, on every interpreter.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "cpython"))

import interpreters

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


@dataclass
class Comparison:
    """What black said on both sides."""

    files: int
    changed: int
    """Files that black would format otherwise."""
    same: bool
    on_heap: int
    processes: int
    """As heapkeeper's log counts them, black's workers included where they were started, not forked."""
    differing_collections: int
    """Processes that found a collection to differ from CPython's: with `gc=verify` only."""


def files(library: Path, *, tests: bool) -> list[Path]:
    """The library's source files; `tests` with its own tests, some of which are meant not to parse."""
    left_out = {"site-packages", "__pycache__", "bad_coding.py", "lib2to3"} | (
        set() if tests else {"test", "tests", "idle_test"}
    )
    return sorted(path for path in library.rglob("*.py") if not left_out & set(path.relative_to(library).parts))


def blacken(
    python: Path, library: Path, sources: list[Path], workers: int, variables: dict[str, str], folder: Path
) -> tuple[int, list[str], dict[Path, bytes]]:
    """Formats copies of the files in `folder`; black's exit status, its messages in any order, and the files."""
    shutil.rmtree(folder, ignore_errors=True)
    for source in sources:
        copy = folder / source.relative_to(library)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    environment = interpreters.clean_environment() | variables | {"BLACK_CACHE_DIR": str(folder / "cache")}
    command = [python, "-m", "black", "--no-color", "--workers", str(workers), "."]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600, cwd=folder)
    messages = sorted(line.replace(str(folder), "") for line in answer.stderr.splitlines())
    return (
        answer.returncode,
        messages,
        {path.relative_to(library): (folder / path.relative_to(library)).read_bytes() for path in sources},
    )


def compare(python: Path, sources: list[Path], workers: int, folder: Path, settings: Iterable[str] = ()) -> Comparison:
    """Both sides over the same files of the standard library; `folder` takes the copies and heapkeeper's log.

    `settings` are further ones for HEAPKEEPER.
    """
    library = library_of(python)
    log = folder / "black.log"
    log.unlink(missing_ok=True)
    plain = blacken(python, library, sources, workers, {}, folder / "plain")
    found = folder / "found"
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir()
    variables = {"HEAPKEEPER": ",".join([f"log={log}", *settings]), "TMPDIR": str(found)}
    ours = blacken(python, library, sources, workers, variables, folder / "ours")
    allocators = [line.split("\t")[2] for line in log.read_text().splitlines()] if log.exists() else []
    changed = sum((library / path).read_bytes() != content for path, content in ours[2].items())
    return Comparison(
        len(sources),
        changed,
        plain == ours,
        allocators.count("heapkeeper"),
        len(allocators),
        len(list(found.glob("heapkeeper-verify-*"))),
    )


def library_of(python: Path) -> Path:
    """The standard library that a python uses."""
    code = "import sysconfig; print(sysconfig.get_path('stdlib'))"
    return Path(subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.strip())
