"""The allocators that a benchmark compares: how each is put under a CPython, and whether it is at hand.

A rival is an environment plus the words between the interpreter and the script; all else of two runs is the same.
`clean_environment` is where each run starts from, so that a setting of the caller's shell favours nobody.
"""

import functools
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

BENCHES = Path(__file__).resolve().parent
# Where Debian and its kin put shared libraries, then where others do.
LIBRARY_FOLDERS = ("usr/lib/*-linux-gnu", "usr/lib64", "usr/lib", "usr/local/lib")
# Settings of the caller that would change what is measured.
STRIPPED_PREFIXES = ("HEAPKEEPER", "LD_", "MALLOC_", "MIMALLOC_", "JE_MALLOC", "GLIBC_TUNABLES", "PYTHON", "PYPERF")


@dataclass(frozen=True)
class Rival:
    """One allocator in one setting."""

    key: str
    label: str
    # What a process must say of itself in alloc_mix's `served_by`.
    serves: str
    environment: dict = field(default_factory=dict)
    # Between the interpreter and the script.
    launcher: tuple = ()
    # Before the interpreter.
    starter: tuple = ()
    # What it writes while it profiles; removed before each run.
    capture: Path | None = None
    huge_pages: bool = True
    # The key of the rival that this one is compared with.
    baseline: str = "pymalloc"
    # Who must run full collections, where that is asked: a process says it in `collected_by`.
    collects: str = "cpython"
    # Why it cannot take part here; empty when it can.
    missing: str = ""

    def command(self, python, *arguments):
        """The command that runs `arguments` (a script and what follows) on this allocator."""
        command = [*self.starter, str(python), *self.launcher, *map(str, arguments)]
        if not self.huge_pages:
            command = [str(python), str(BENCHES / "no_huge_pages.py"), *command]
        return command

    def variables(self, **extra):
        """The environment of a run on this allocator."""
        return {**clean_environment(), **self.environment, **extra}


def clean_environment():
    """The caller's environment without what steers Python or an allocator."""
    return {name: value for name, value in os.environ.items() if not name.startswith(STRIPPED_PREFIXES)}


@functools.cache
def library(pattern):
    """The path of a shared library, or null where it is not installed."""
    found = [path for folder in LIBRARY_FOLDERS for path in sorted(Path("/").glob(f"{folder}/{pattern}"))]
    return str(found[0]) if found else None


def preloaded(key, pattern, package):
    """A malloc that takes the place of glibc's, with Python's small objects sent to malloc as well."""
    path = library(pattern)
    environment = {"PYTHONMALLOC": "malloc", **({"LD_PRELOAD": path} if path else {})}
    missing = "" if path else f"not installed: apt install {package}"
    return Rival(key, key, key, environment, missing=missing)


def peers():
    """CPython's own allocator and the three mallocs."""
    return [
        Rival("pymalloc", "pymalloc (CPython's own)", "pymalloc"),
        Rival("glibc", "glibc malloc", "glibc", {"PYTHONMALLOC": "malloc"}),
        preloaded("mimalloc", "libmimalloc.so.2", "libmimalloc2.0"),
        preloaded("jemalloc", "libjemalloc.so.2", "libjemalloc2"),
    ]


def heapkeeper_runs(installed):
    """heapkeeper as a user starts it, in the settings that the page compares."""
    missing = "" if installed else "not installed for this interpreter: make build"
    run = ("-m", "heapkeeper", "run", "-q")
    ours = {"serves": "heapkeeper", "missing": missing}
    return [
        Rival("heapkeeper", "heapkeeper", launcher=run, **ours),
        Rival("heapkeeper-unsampled", "heapkeeper, `--profile off`", launcher=(*run, "--profile", "off"), **ours),
        Rival("pymalloc-small", "pymalloc, no huge pages", "pymalloc", huge_pages=False),
        Rival(
            "heapkeeper-small",
            "heapkeeper, no huge pages",
            launcher=run,
            huge_pages=False,
            baseline="pymalloc-small",
            **ours,
        ),
    ]


def heapkeeper_through_environment(installed, **settings):
    """heapkeeper as child processes meet it: `HEAPKEEPER` in the environment, nothing on the command line.

    Settings are those of that variable, with `_` for `-`: `profile="off"`, `sample_bytes="512K"`, `seed=1`.
    """
    value = ",".join(f"{name.replace('_', '-')}={setting}" for name, setting in settings.items()) or "1"
    missing = "" if installed else "not installed for this interpreter: make build"
    return Rival("heapkeeper", "heapkeeper", "heapkeeper", {"HEAPKEEPER": value}, missing=missing)


def logged(rival, path):
    """One of these rivals, whose processes name themselves in the file `path`: to be asked, not to be measured."""
    value = rival.environment["HEAPKEEPER"]
    settings = "" if value == "1" else f"{value},"
    return replace(rival, environment={"HEAPKEEPER": f"{settings}log={path}"})


def profilers(installed, folder):
    """Plain python, our heap with each kind of profile, and other people's memory profilers.

    What they write goes to files in `folder`.
    """

    def writes(name, launcher, *options):
        """Words that start a profiler with its output."""
        path = Path(folder) / name
        return {"launcher": (*launcher, str(path), *options), "capture": path}

    missing = "" if installed else "not installed for this interpreter: make build"
    ours = {"serves": "heapkeeper", "missing": missing}
    run = ("-m", "heapkeeper", "run", "-q", "--profile")
    memray = ("-m", "memray", "run", "--quiet", "--force", "--output")
    scalene = ("-m", "scalene", "run", "--memory", "--profile-all", "--outfile")
    every = "--trace-python-allocators"
    return [
        Rival("plain", "plain python", "pymalloc"),
        Rival("off", "heapkeeper, `--profile off`", launcher=(*run, "off"), **ours),
        Rival("sample", "heapkeeper, `--profile sample`", launcher=(*run, "sample"), **ours),
        Rival("exact", "heapkeeper, `--profile exact`", launcher=(*run, "exact"), **ours),
        Rival(
            "capture",
            "heapkeeper, `--profile exact -o FILE`",
            **writes("ours.hk", (*run, "exact", "--force", "-o")),
            **ours,
        ),
        Rival("tracemalloc-1", "tracemalloc, 1 frame", "pymalloc", launcher=("-X", "tracemalloc=1")),
        Rival("tracemalloc-25", "tracemalloc, 25 frames", "pymalloc", launcher=("-X", "tracemalloc=25")),
        Rival("memray", "memray", "pymalloc", **writes("memray.bin", memray)),
        Rival("memray-aggregate", "memray, `--aggregate`", "pymalloc", **writes("sums.bin", memray, "--aggregate")),
        Rival("memray-every", f"memray, `{every}`", "pymalloc", **writes("every.bin", memray, every)),
        Rival(
            "memray-every-aggregate",
            f"memray, `{every} --aggregate`",
            "pymalloc",
            **writes("every-sums.bin", memray, every, "--aggregate"),
        ),
        Rival(
            "memray-malloc",
            "memray, `PYTHONMALLOC=malloc`",
            "glibc",
            {"PYTHONMALLOC": "malloc"},
            **writes("malloc.bin", memray),
        ),
        Rival("scalene", "scalene, `--memory --profile-all`", "pymalloc", **writes("scalene.json", scalene)),
    ]


NO_GC_OPTION = "this heapkeeper has no --gc"


@functools.cache
def collectors(python, implementation, installed):
    """An interpreter's own collector on its own heap and on ours, and our collector."""
    own = Rival("cpython", f"{implementation}'s", "pymalloc", collects=implementation.lower())
    if implementation != "CPython":
        return [own]
    missing = "" if installed else "not installed for this interpreter: make build"
    run = ("-m", "heapkeeper", "run", "-q")
    # Before heapkeeper had a collector there was no option, and CPython's was the only one.
    has_option = bool(installed) and has_gc_option(python)
    on_heap = (*run, "--gc", "cpython") if has_option else run
    ours = {"serves": "heapkeeper", "baseline": "cpython"}
    return [
        own,
        Rival("cpython-heap", "CPython's on our heap", launcher=on_heap, missing=missing, **ours),
        Rival(
            "heapkeeper",
            "heapkeeper's",
            launcher=(*run, "--gc", "heapkeeper"),
            collects="heapkeeper",
            missing=missing or ("" if has_option else NO_GC_OPTION),
            **ours,
        ),
    ]


def in_background(ours):
    """The same, with its searches in a child."""
    return replace(ours, launcher=(*ours.launcher[:-1], "background"), collects="background")


def has_gc_option(python):
    """Whether the heapkeeper of an interpreter lets its user choose the collector."""
    command = [str(python), "-m", "heapkeeper", "run", "--help"]
    return "--gc " in subprocess.run(command, env=clean_environment(), stdout=subprocess.PIPE, text=True).stdout


def versions():
    """The version of each preloaded malloc, asked of the library itself; null where it is not installed."""
    # mimalloc writes 2.0.9 as 209.
    mimalloc = "import ctypes; v = ctypes.CDLL(None).mi_version(); print('%d.%d.%d' % (v // 100, v // 10 % 10, v % 10))"
    jemalloc = (
        "import ctypes; p, n = ctypes.c_char_p(), ctypes.c_size_t(8)\n"
        "assert ctypes.CDLL(None).mallctl(b'version', ctypes.byref(p), ctypes.byref(n), None, 0) == 0\n"
        "print(p.value.decode().partition('-')[0])"
    )
    questions = {"mimalloc": mimalloc, "jemalloc": jemalloc}
    answers = {}
    for rival in peers():
        if rival.key in questions:
            command = [sys.executable, "-c", questions[rival.key]]
            answers[rival.key] = None
            if not rival.missing:
                told = subprocess.run(command, env=rival.variables(), stdout=subprocess.PIPE, text=True)
                answers[rival.key] = told.stdout.strip() or Path(library(f"lib{rival.key}.so.2")).resolve().name
    return answers
