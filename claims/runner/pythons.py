"""Finds the Pythons to run the programs on: pyenv's, those on PATH, those named on the command line, our heap, and the
crate `heapkeeper`, for which a row has a program in Rust.

One a series of CPython and one of each other implementation. Whatever answers is used by what it says of itself; its
file name only helps to find it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from claims.runner.rows import PROJECT

# In the order of the page's columns.
IMPLEMENTATIONS = ("CPython", "PyPy", "MicroPython", "Jython", "heapkeeper", "Rust")
# A row may have nothing to say of these.
OURS = ("heapkeeper", "Rust")
NAMES_ON_PATH = ("python2.7", *(f"python3.{minor}" for minor in range(6, 30)), "pypy3", "micropython", "jython")

# Old and small Pythons must understand this too.
_QUESTION = """
import sys
implementation = getattr(sys, "implementation", None)
name = implementation.name if implementation else "jython" if sys.platform.startswith("java") else "cpython"
if hasattr(sys, "pypy_version_info"):
    name, version = "pypy", sys.pypy_version_info
elif name == "micropython":
    version = implementation.version
else:
    version = sys.version_info
language = ".".join([str(part) for part in tuple(sys.version_info)[:3]])
free_threaded = 0
if name == "cpython":
    import sysconfig
    free_threaded = int(bool(sysconfig.get_config_var("Py_GIL_DISABLED")))
print("%s %s %s %d" % (name, ".".join([str(part) for part in tuple(version)[:3]]), language, free_threaded))
"""
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Python:
    """One Python to run programs on."""

    implementation: str
    """One of IMPLEMENTATIONS."""
    version: tuple
    """The implementation's own; of heapkeeper, the version of the CPython on it; of Rust, the crate's."""
    detail: str
    """What the page says of it."""
    command: list
    """Comes before a program's path."""
    environment: dict = field(default_factory=dict)

    @property
    def label(self):
        """The column's head: a CPython's series, or the implementation's name."""
        if self.implementation in OURS:
            return "our heap" if self.implementation == "heapkeeper" else "our crate"
        return ".".join(map(str, self.version[:2])) if self.implementation == "CPython" else self.implementation

    @property
    def order(self):
        return IMPLEMENTATIONS.index(self.implementation), self.version


def clean_environment():
    """This process's environment without what steers an interpreter, an allocator or heapkeeper."""
    steering = ("PYTHON", "HEAPKEEPER", "LD_PRELOAD", "MALLOC_", "VIRTUAL_ENV", "__PYVENV", "PYPY", "MICROPY", "JYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"}


def find(paths=()):
    """Every Python to run on, in the page's order; those at `paths` stand in for ones found elsewhere."""
    found = {python.label: python for python in map(ask, _on_this_machine()) if python}
    found |= {python.label: python for python in map(ask, paths) if python}
    ours = [each for each in (on_our_heap(), our_crate()) if each]
    return sorted([*found.values(), *ours], key=lambda each: each.order)


def default():
    """The interpreter that runs this, the same on our heap if heapkeeper is installed for it, and our crate."""
    return [each for each in (ask(sys.executable), on_our_heap(), our_crate()) if each]


def _on_this_machine():
    """Paths to ask, the ones to prefer last: of pyenv's releases of one series that is the newest."""
    yield sys.executable
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for name in NAMES_ON_PATH:
        path = shutil.which(name)
        # pyenv's shims are left out: they stand for the releases below, or answer with an error.
        if path is not None and root not in Path(path).parents:
            yield path
    releases = root.glob("versions/*/bin/python")
    yield from sorted(releases, key=lambda path: [int(part) for part in re.findall(r"\d+", path.parts[-3])])


def ask(path):
    """The Python at a path; None when it does not answer, or is a kind that no program speaks of."""
    try:
        answer = subprocess.run(
            [path, "-c", _QUESTION], capture_output=True, text=True, timeout=_TIMEOUT_S, env=clean_environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = answer.stdout.split()
    names = {name.lower(): name for name in IMPLEMENTATIONS}
    if answer.returncode != 0 or len(words) != 4 or words[0] not in names or words[3] != "0":
        return None
    implementation, version, language = names[words[0]], words[1], words[2]
    if implementation == "CPython" and (3, 0) <= _version(version) < (3, 6):
        return None
    detail = f"{implementation} {version}" + ("" if language == version else f" (Python {language})")
    return Python(implementation, _version(version), detail, [str(path)])


def on_our_heap():
    """The interpreter that runs this, with its programs on our heap; None when it cannot be, or has no heapkeeper."""
    command = [sys.executable, "-m", "heapkeeper", "run", "-q"]
    question = (
        "import heapkeeper, json, platform\n"
        "allocator = heapkeeper.status()['allocator']['name']\n"
        "print(json.dumps([allocator, heapkeeper.__version__, platform.python_version()]))"
    )
    try:
        answer = subprocess.run(
            [*command, "-c", question], capture_output=True, text=True, timeout=_TIMEOUT_S, env=clean_environment()
        )
        allocator, ours, version = json.loads(answer.stdout)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    if allocator != "heapkeeper":
        return None
    return Python("heapkeeper", _version(version), f"heapkeeper {ours} under CPython {version}", command)


def our_crate():
    """The programs in Rust, built by cargo; None where there is no cargo."""
    package = ["--quiet", "--release", "--package", "heapkeeper-claims"]
    try:
        subprocess.run(["cargo", "build", *package], cwd=PROJECT, check=True)
        tree = ["cargo", "tree", "--quiet", "--package", "heapkeeper-claims", "--depth", "1", "--prefix", "none"]
        answer = subprocess.run(tree, cwd=PROJECT, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    version = next(
        line.split()[1].removeprefix("v") for line in answer.stdout.splitlines() if line.startswith("heapkeeper v")
    )
    return Python("Rust", _version(version), f"the crate heapkeeper {version}", ["cargo", "run", *package, "--"])


def _version(text):
    return tuple(int(part) for part in text.split("."))
