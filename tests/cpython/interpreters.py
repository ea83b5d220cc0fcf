"""Finds CPython interpreters and keeps a virtual environment with heapkeeper installed for each.

Used by run.py and by tests/packages. Environments live in the project's `.venvs/`, one an interpreter (and one more for the packages), and are
refreshed when the content of a source file differs from what they were made from. All builds share cargo's target folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = PROJECT / ".venvs"
OLDEST, NEWEST = (3, 10), (3, 13)

# What a heapkeeper wheel is made from.
SOURCES = ("Cargo.toml", "Cargo.lock", "pyproject.toml", "README.md", "crates", "python")
NOT_SOURCES = ("target", "__pycache__", ".pytest_cache")


@dataclass(frozen=True)
class Interpreter:
    """A CPython found on this machine."""

    path: Path
    version: str
    """As `3.12.1`."""

    @property
    def series(self) -> str:
        """As `3.12`: names the environment."""
        return ".".join(self.version.split(".")[:2])


def inspect(path: str | os.PathLike[str]) -> Interpreter | None:
    """The base interpreter behind a path; None when it is no CPython with the GIL between OLDEST and NEWEST."""
    code = (
        "import os, sys, sysconfig\n"
        "usable = sys.implementation.name == 'cpython' and not sysconfig.get_config_var('Py_GIL_DISABLED')\n"
        "base = os.path.join(sys.base_prefix, 'bin', 'python%d.%d' % sys.version_info[:2])\n"
        "print(usable, '.'.join(map(str, sys.version_info[:3])), base if os.path.exists(base) else sys.executable)"
    )
    try:
        answer = subprocess.run([path, "-I", "-c", code], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if answer.returncode != 0:
        return None
    usable, version, executable = answer.stdout.strip().split(" ", 2)
    if usable != "True" or not OLDEST <= tuple(map(int, version.split(".")[:2])) <= NEWEST:
        return None
    return Interpreter(Path(executable), version)


def find() -> list[Interpreter]:
    """One interpreter a series, oldest first: pyenv's versions, then those on PATH; only ones that brought their tests along."""
    root = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    candidates = sorted(glob.glob(f"{root}/versions/3.*/bin/python"))
    for minor in range(OLDEST[1], NEWEST[1] + 1):
        if (path := shutil.which(f"python3.{minor}")) is not None:
            candidates.append(path)
    found: dict[str, Interpreter] = {}
    for candidate in candidates:
        interpreter = inspect(candidate)
        if interpreter and interpreter.series not in found and has_tests(interpreter):
            found[interpreter.series] = interpreter
    return sorted(found.values(), key=lambda each: tuple(map(int, each.version.split("."))))


def has_tests(interpreter: Interpreter) -> bool:
    """Whether CPython's own tests were installed with it (Debian leaves them out)."""
    code = "import test.test_gc"
    return subprocess.run([interpreter.path, "-I", "-c", code], capture_output=True).returncode == 0


def fingerprint(project: Path) -> str:
    """A digest of everything a wheel of this folder is made from."""
    digest = hashlib.sha256()
    for source in SOURCES:
        path = project / source
        files = [path] if path.is_file() else sorted(path.rglob("*"))
        for file in files:
            if file.is_file() and file.suffix != ".so" and not set(file.parts) & set(NOT_SOURCES):
                digest.update(f"{file.relative_to(project)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def revision(project: Path) -> str:
    """The commit that last changed what a wheel is made from; says so if the files differ from it."""
    git = ["git", "-C", str(project)]
    try:
        commit = subprocess.run(
            [*git, "log", "-1", "--format=%h", "--", *SOURCES], capture_output=True, text=True, check=True
        )
        changes = subprocess.run(
            [*git, "status", "--porcelain", "--", *SOURCES], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "no git repository"
    return commit.stdout.strip() + (", with changes" if changes.stdout else "")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file, so that two runs do not make one environment at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def quietly(command: list[str | Path], log: Path, **options) -> None:
    """Runs a command with its output in a file, whose end is shown if it fails."""
    with log.open("a") as file:
        code = subprocess.run(
            command, stdout=file, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options
        ).returncode
    if code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
        raise SystemExit(f"{' '.join(map(str, command))}\nfailed with exit status {code}; the end of {log}:\n{tail}")


def clean_environment() -> dict[str, str]:
    """This process's environment without what would steer an interpreter or heapkeeper."""
    leave_out = ("PYTHON", "HEAPKEEPER", "LD_PRELOAD", "STARTS_LOG", "VIRTUAL_ENV", "__PYVENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(leave_out)}


def ensure(
    interpreter: Interpreter, *, name: str | None = None, project: Path = PROJECT, requirements: Path | None = None
) -> Path:
    """The python of an environment that holds heapkeeper (and what `requirements` names), made or refreshed as needed."""
    folder = ENVIRONMENTS / (name or interpreter.series)
    python = folder / "bin" / "python"
    base = f"{interpreter.version} {interpreter.path}"
    wanted_requirements = requirements.read_text() if requirements else ""
    with locked(ENVIRONMENTS / f"{folder.name}.lock"):
        sources = fingerprint(project)
        log = ENVIRONMENTS / f"{folder.name}.log"
        stamps = {part: folder / f".{part}" for part in ("base", "requirements", "sources")}

        def is_fresh(part: str, wanted: str) -> bool:
            return stamps[part].exists() and stamps[part].read_text() == wanted

        if not is_fresh("base", base):
            log.unlink(missing_ok=True)
            quietly([interpreter.path, "-m", "venv", "--clear", folder], log, env=clean_environment())
            stamps["base"].write_text(base)
        if requirements and not is_fresh("requirements", wanted_requirements):
            quietly([python, "-m", "pip", "install", "--quiet", "-r", requirements], log, env=clean_environment())
            stamps["requirements"].write_text(wanted_requirements)
        if not is_fresh("sources", sources):
            stamps["sources"].unlink(missing_ok=True)
            install = [python, "-m", "pip", "install", "--quiet"]
            built = wheel(python, interpreter, project, sources, log)
            quietly([*install, built], log, env=clean_environment())
            quietly([*install, "--force-reinstall", "--no-deps", built], log, env=clean_environment())
            stamps["sources"].write_text(sources)
    return python


def wheel(python: Path, interpreter: Interpreter, project: Path, sources: str, log: Path) -> Path:
    """heapkeeper's wheel for an interpreter, built once for each state of the sources."""
    folder = ENVIRONMENTS / "wheels" / f"{interpreter.version}-{sources}"
    with locked(ENVIRONMENTS / "wheels.lock"):
        if not list(folder.glob("*.whl")):
            for stale in (ENVIRONMENTS / "wheels").glob(f"{interpreter.version}-*"):
                shutil.rmtree(stale)
            environment = clean_environment()
            environment.setdefault("CARGO_TARGET_DIR", str(PROJECT / "target"))
            # Where `make build` has built for this interpreter, in the same way: cargo then finds all of it unchanged.
            as_built = inspect(sys.executable) == interpreter and find_spec("maturin") is not None
            builder = Path(sys.executable) if as_built else python
            environment["PATH"] = f"{builder.parent}:{environment['PATH']}"
            options = ["--quiet", "--no-deps", "--wheel-dir", folder, *(["--no-build-isolation"] if as_built else [])]
            command = [builder.parent / "pip", "wheel", *options, project]
            quietly(command, log, env=environment)
    (built,) = folder.glob("*.whl")
    return built


if __name__ == "__main__":
    for each in find():
        sys.stdout.write(f"{each.version} {each.path}\n")
