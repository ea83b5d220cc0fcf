"""A subset of pyperformance, run so that allocators can be compared: whole rounds, interleaved, on the same loops.

`pyperformance run` measures one interpreter from the first benchmark to the last; two such runs, ten minutes apart,
differ by more than two allocators do. So this calls pyperformance's scripts itself, one worker process at a time
(`--worker`, pyperf's own name for a process that measures): in each pass over a benchmark every allocator has a turn,
in an order drawn anew, with the same hash seed and the same number of loops, which a calibration on pymalloc fixed.

The interpreter is the one that heapkeeper is installed for; pyperformance lies beside it, on PYTHONPATH.
heapkeeper comes in through `HEAPKEEPER`, as it does to any child process. Before anything is measured, a run of each
benchmark is asked by its log who really ran on it.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import machine
import rivals
import timing

REQUIREMENTS = rivals.BENCHES / "requirements.txt"
VENVS = machine.ROOT / ".venvs"
WARMUPS = 1
# pyperf's defaults: values a process, and the least seconds a value may take before loops are doubled.
VALUES = 3
MIN_SECONDS = "0.1"
# Passes in a round. The question is pymalloc or heapkeeper; the other mallocs are there for scale.
PASSES = 4
PASSES_OF_OTHERS = 2
TIMEOUT_S = 300


@dataclass(frozen=True)
class Benchmark:
    """One benchmark: pyperformance's script, what it is told, and which of its measurements is taken."""

    name: str
    script: str
    arguments: tuple = ()
    task: int = 0
    values: int = VALUES
    # A module that the script needs and an interpreter may lack.
    needs: str = ""


# Chosen before anything was measured: benchmarks that allocate, that take a second or so a process, and whose
# dependencies install on every supported version. Interpreter-bound ones (deltablue, hexiom, richards) are controls.
BENCHMARKS = (
    Benchmark("2to3", "2to3", needs="lib2to3"),
    Benchmark("async_tree", "async_tree", ("none",), values=2),
    Benchmark("chaos", "chaos"),
    Benchmark("comprehensions", "comprehensions"),
    Benchmark("deepcopy", "deepcopy"),
    Benchmark("deltablue", "deltablue"),
    Benchmark("django_template", "django_template", needs="django"),
    Benchmark("float", "float"),
    Benchmark("generators", "generators"),
    Benchmark("hexiom", "hexiom"),
    Benchmark("html5lib", "html5lib", needs="html5lib"),
    Benchmark("json_dumps", "json_dumps"),
    Benchmark("json_loads", "json_loads"),
    Benchmark("logging_format", "logging", ("format",)),
    Benchmark("mako", "mako", needs="mako"),
    Benchmark("pickle_pure_python", "pickle", ("--pure-python", "pickle")),
    Benchmark("python_startup", "python_startup"),
    Benchmark("regex_compile", "regex_compile"),
    Benchmark("richards", "richards"),
    Benchmark("sqlglot_parse", "sqlglot_v2", ("parse",), needs="sqlglot"),
    Benchmark("unpickle_pure_python", "pickle", ("--pure-python", "unpickle")),
)


def packages(python, version, name="bench", requirements=REQUIREMENTS):
    """The folder with what a benchmark needs (pyperformance), for one version of Python; filled at the first call."""
    venv = VENVS / f"{name}-{version.rpartition('.')[0]}"
    stamp = venv / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        timing.say(f"installing {requirements.name} into {venv.relative_to(machine.ROOT)}")
        subprocess.run([str(python), "-m", "venv", "--clear", str(venv)], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "-r", str(requirements)], check=True, stdout=sys.stderr)
        stamp.write_text(requirements.read_text())
    return next(venv.glob("lib/python3*/site-packages"))


class Suite:
    """The measured processes of one interpreter."""

    def __init__(self, python, folder, scratch, others=()):
        """`folder` has pyperformance; processes import from there, then from `others`."""
        self.python = python
        self.folder = folder
        self.path = os.pathsep.join(map(str, (folder, *others)))
        self.scratch = Path(scratch)
        self.scripts = folder / "pyperformance" / "data-files" / "benchmarks"

    def worker(self, benchmark, rival, seed, *options):
        """One worker process; returns its process id and pyperf's record of it. Raises `RunFailed`."""
        record = self.scratch / "record.json"
        record.unlink(missing_ok=True)
        command = rival.command(
            self.python,
            self.scripts / f"bm_{benchmark.script}" / "run_benchmark.py",
            "--worker",
            f"--worker-task={benchmark.task}",
            f"--warmups={WARMUPS}",
            f"--output={record}",
            *options,
            *benchmark.arguments,
        )
        environment = rival.variables(PYTHONPATH=self.path, PYTHONHASHSEED=str(seed))
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            _, errors = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise timing.RunFailed(f"no end after {TIMEOUT_S} s") from None
        if process.returncode != 0 or not record.exists():
            raise timing.RunFailed(timing.ending(process.returncode, errors.decode(errors="replace")))
        return process.pid, json.loads(record.read_text())

    def calibrated_loops(self, benchmark, rival):
        """How often the benchmark's function runs for one value, so that a value takes long enough to be measured."""
        _, record = self.worker(benchmark, rival, 1, "--calibrate-loops", "--values=1", f"--min-time={MIN_SECONDS}")
        return record["metadata"]["loops"]

    def seconds(self, benchmark, rival, seed, loops):
        """The values of one worker: seconds for one call of the benchmark's function."""
        _, record = self.worker(benchmark, rival, seed, f"--loops={loops}", f"--values={benchmark.values}")
        return record["benchmarks"][0]["runs"][0]["values"]

    def asked(self, benchmark, rival):
        """The process id of a worker that is not measured; None if it failed, as those that are will say."""
        try:
            return self.worker(benchmark, rival, 1, "--loops=1", "--values=1")[0]
        except timing.RunFailed:
            return None

    def has(self, module):
        """Whether the interpreter finds a module."""
        question = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
        environment = {**rivals.clean_environment(), "PYTHONPATH": self.path}
        return subprocess.run([str(self.python), "-c", question], env=environment).returncode == 0


def served(log):
    """From heapkeeper's log: the process ids that ran on its heap, and those that stayed on CPython's."""
    ours, others = set(), set()
    if log.exists():
        for line in log.read_text().splitlines():
            pid, _, allocator, _ = line.split("\t", 3)
            (ours if allocator == "heapkeeper" else others).add(int(pid))
    return ours, others


def allocators(installed):
    """Who is compared where the question is the allocator."""
    return [*rivals.peers(), rivals.heapkeeper_through_environment(installed)]


def pyperformance(python, about, rounds, quick=False, benchmarks=BENCHMARKS, compared=allocators):
    """Benchmarks on every rival: benchmark → loops, and seconds by rival and round; and how many processes came along.

    `about` is `machine.interpreter` of the same interpreter; `compared(installed)` the rivals, the baseline first.
    """
    installed = about["heapkeeper"] is not None
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "processes.log"
        invited = compared(installed)
        entrants = [rival for rival in invited if not rival.missing]
        suite = Suite(python, packages(python, about["version"]), scratch)
        table, skipped, chosen = {}, {}, []
        for benchmark in benchmarks:
            if benchmark.needs and not suite.has(benchmark.needs):
                skipped[benchmark.name] = f"no module {benchmark.needs} for CPython {about['version']}"
                continue
            loops = 1 if quick else suite.calibrated_loops(benchmark, entrants[0])
            table[benchmark.name] = {"loops": loops, "seconds": {rival.key: [] for rival in entrants}, "failed": {}}
            chosen.append(benchmark)
        ours = [rivals.logged(rival, log) for rival in entrants if rival.key == "heapkeeper"]
        workers = {suite.asked(benchmark, rival) for benchmark in chosen for rival in ours} - {None}
        for number in range(rounds):
            timing.say(f"pyperformance, round {number + 1} of {rounds}")
            for benchmark in chosen:
                run_round(suite, benchmark, entrants, table[benchmark.name], number, quick)
        came, stayed = served(log)
    return {
        "rounds": rounds,
        "versions": {name: machine.package_version(name, suite.folder) for name in ("pyperformance", "pyperf")},
        "rivals": [rival.key for rival in entrants],
        "missing": {rival.key: rival.missing for rival in invited if rival.missing},
        "benchmarks": table,
        "skipped": skipped,
        # One worker a benchmark is asked; the others are what they started (2to3, python_startup).
        "processes": {
            "workers": len(workers),
            "workers_on_heapkeeper": len(workers & came),
            "others_on_heapkeeper": len(came - workers),
            "on_cpython": len(stayed | (workers - came)),
        },
    }


def run_round(suite, benchmark, entrants, row, number, quick):
    """One round of one benchmark."""
    values = {rival.key: [] for rival in entrants}
    for turn in range(1 if quick else PASSES):
        seed = number * PASSES + turn + 1
        order = [
            rival
            for rival in entrants
            if rival.key not in row["failed"] and (rival.key in ("pymalloc", "heapkeeper") or turn < PASSES_OF_OTHERS)
        ]
        # A fixed, different order for each pass of each benchmark.
        random.Random(f"{benchmark.name} {seed}").shuffle(order)
        for rival in order:
            try:
                measured = suite.seconds(benchmark, rival, seed, row["loops"])
            except timing.RunFailed as failure:
                row["failed"][rival.key] = str(failure)
                timing.say(f"  {benchmark.name} on {rival.key}: {failure}")
                continue
            values[rival.key] += measured
    for key, measured in values.items():
        row["seconds"][key].append([float(f"{value:.6g}") for value in measured])
