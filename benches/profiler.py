"""What profiling costs: heapkeeper's profiler and other people's, each against plain python. `make bench-profile` runs this.

    .venv/bin/python benches/profiler.py                        everything, for the interpreter that runs this
    .venv/bin/python benches/profiler.py --quick                a look in two minutes; nothing is written
    .venv/bin/python benches/profiler.py --workloads float mako these workloads; the others keep their figures
    .venv/bin/python benches/profiler.py --rounds 1 --add       another round, beside those kept of the same sources
    .venv/bin/python benches/profiler.py --render               the page again, from the figures kept

Figures go to benches/results/profiler.json after each workload, and to their part of docs/benchmarks.md. Leave the
machine alone while it runs.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import instructions
import machine
import page
import profiler_figures as figures
import profiler_page
import records
import rivals
import suite
import timing

RECORD = page.RESULTS / "profiler.json"
SCRIPT = "benches/profiler.py"
REQUIREMENTS = rivals.BENCHES / "profilers.txt"
# What decides the figures: heapkeeper, and the workload of our own.
SOURCES = (*machine.MEASURED_SOURCES, "benches/workloads/alloc_mix.py")
ROUNDS = 3
# The share of alloc_mix that callgrind runs.
SHARE = 0.05
# Chosen before anything was measured: benchmarks that allocate, in Python and in C, and take less than a second.
SUITE = {
    benchmark.name: benchmark
    for benchmark in suite.BENCHMARKS
    if benchmark.name
    in (
        "async_tree",
        "deepcopy",
        "django_template",
        "float",
        "html5lib",
        "json_loads",
        "pickle_pure_python",
        "sqlglot_parse",
    )
}
WORKLOADS = ("alloc_mix", *SUITE, "instructions")
# A second's work that takes a profiler longer has no figure.
LIMIT_S = 90
# Kills who exceeds it. It forks, too: a process that is its child does not inherit the peak size of this one.
STARTER = ("timeout", str(LIMIT_S))
TIMED_OUT = 124


def options():
    parser = argparse.ArgumentParser(description="Measure what memory profilers cost and write docs/benchmarks.md.")
    records.add_interpreters(parser)
    records.add_options(parser, ROUNDS, "every workload")
    parser.add_argument(
        "--workloads",
        nargs="+",
        choices=WORKLOADS,
        default=list(WORKLOADS),
        metavar="NAME",
        help=f"what to measure: {', '.join(WORKLOADS)} (default: all)",
    )
    parser.add_argument(
        "--rivals", nargs="+", metavar="KEY", help="of the profilers only these, beside plain python (default: all)"
    )
    parser.add_argument("--add", action="store_true", help="keep the rounds that were measured of the same sources")
    return parser.parse_args()


# --- one process ---


def captured_bytes(rival):
    """The size of what a profiler wrote; null for one that writes nothing. Raises `timing.RunFailed` where it is missing."""
    if rival.capture is None:
        return None
    if not rival.capture.exists():
        raise timing.RunFailed("wrote nothing")
    return rival.capture.stat().st_size


@contextlib.contextmanager
def fresh_capture(rival):
    """A run of a profiler whose output does not exist before, and not after."""
    try:
        yield
    finally:
        if rival.capture is not None:
            rival.capture.unlink(missing_ok=True)


def run_alloc_mix(rival, python, folder, share, seed):
    """One run: seconds by part and from start to end, peak size, and the size of the capture. Raises `RunFailed`."""
    with fresh_capture(rival):
        command = rival.command(python, timing.ALLOC_MIX, share)
        began = time.perf_counter()
        told = timing.output_of(command, rival.variables(PYTHONHASHSEED=str(seed), PYTHONPATH=str(folder)))
        elapsed_s = time.perf_counter() - began
        # Some profilers have words of their own on standard output.
        run = json.loads(next(line for line in told.splitlines() if line.startswith("{")))
        if run["served_by"] != rival.serves:
            raise timing.RunFailed(f"ran on {run['served_by']} instead of {rival.serves}")
        return {
            "seconds": run["seconds"],
            "whole_s": round(elapsed_s, 4),
            "peak_rss_mib": run["peak_rss_mib"],
            "capture_bytes": captured_bytes(rival),
        }


def run_benchmark(rival, measured, benchmark, loops, seed):
    """One worker of pyperformance: the median of its values, peak size, and the size of the capture. Raises `RunFailed`."""
    with fresh_capture(rival):
        started = dataclasses.replace(rival, starter=STARTER)
        began = time.perf_counter()
        try:
            _, told = measured.worker(benchmark, started, seed, f"--loops={loops}", f"--values={benchmark.values}")
        except timing.RunFailed as failure:
            if str(failure).startswith(f"exit status {TIMED_OUT}"):
                raise timing.RunFailed(f"no end after {LIMIT_S} s") from None
            raise
        elapsed_s = time.perf_counter() - began
        run = told["benchmarks"][0]["runs"][0]
        peak_bytes = {**told["metadata"], **run.get("metadata", {})}["mem_max_rss"]
        return {
            "seconds": {benchmark.name: float(f"{statistics.median(run['values']):.6g}")},
            "whole_s": round(elapsed_s, 4),
            "peak_rss_mib": round(peak_bytes / 2**20, 1),
            "capture_bytes": captured_bytes(rival),
        }


def shown(run):
    """A run, for who waits."""
    spent = " ".join(f"{seconds:.4g}" for seconds in run["seconds"].values())
    wrote = "" if run["capture_bytes"] is None else f"   wrote {run['capture_bytes']:,} bytes"
    return f"{spent} s, in all {run['whole_s']:.1f}   peak {run['peak_rss_mib']} MiB{wrote}"


# --- workloads ---


class Bench:
    """The profilers under one interpreter, and what they are measured with."""

    def __init__(self, python, about, chosen, scratch):
        self.python = python
        self.installed = about["heapkeeper"] is not None
        self.quick = chosen.quick
        self.rounds = chosen.rounds
        self.scratch = Path(scratch)
        self.others = suite.packages(python, about["version"], "profilers", REQUIREMENTS)
        self.folder = suite.packages(python, about["version"])
        self.suite = suite.Suite(python, self.folder, scratch, [self.others])
        invited = rivals.profilers(self.installed, scratch)
        self.entrants = {
            rival.key: rival for rival in invited if not chosen.rivals or rival.key in (figures.PLAIN, *chosen.rivals)
        }

    def versions(self):
        """Of everything but heapkeeper."""
        found = {name: machine.package_version(name, self.others) for name in ("memray", "scalene")}
        found |= {name: machine.package_version(name, self.folder) for name in ("pyperformance", "pyperf")}
        return {**found, "valgrind": machine.tool_version("valgrind", "--version")}

    def measure(self, workload, earlier):
        """A workload's result, after the rounds of an earlier one."""
        if workload == "instructions":
            share = 0.01 if self.quick else SHARE
            compared = counted_entrants(self.installed, self.scratch)
            return {"rounds": 1, **instructions.instructions(self.python, compared, share, caches=False)}
        if workload == "alloc_mix":
            share = 0.1 if self.quick else 1
            loops = None
            run = functools.partial(run_alloc_mix, python=self.python, folder=self.others, share=share)
        else:
            benchmark = SUITE[workload]
            if benchmark.needs and not self.suite.has(benchmark.needs):
                return {"rounds": 0, "cases": {}, "missing": {"plain": f"no module {benchmark.needs}"}}
            plain = self.entrants[figures.PLAIN]
            loops = earlier["loops"] if earlier else 1 if self.quick else self.suite.calibrated_loops(benchmark, plain)
            run = functools.partial(run_benchmark, measured=self.suite, benchmark=benchmark, loops=loops)
        first = earlier["rounds"] if earlier else 0
        rounds, missing = {}, {key: rival.missing for key, rival in self.entrants.items()}

        def noted(key, number):
            rounds.setdefault(number, {})[key] = told = run(self.entrants[key], seed=number + 1)
            return told

        _, failed = timing.interleaved(workload, missing, self.rounds, noted, shown, first=first)
        cases = {
            key: columns([rounds.get(number, {}).get(key) for number in range(first, first + self.rounds)])
            for key in missing
        }
        result = {
            "rounds": first + self.rounds,
            "loops": loops,
            "cases": {key: case for key, case in cases.items() if any(case["whole_s"])},
            "missing": {key: reason for key, reason in failed.items() if reason},
        }
        return added(earlier, result) if earlier else result


def counted_entrants(installed, scratch):
    """Whose instructions are counted: installed through the environment, as callgrind does not follow an exec."""
    ours = functools.partial(rivals.heapkeeper_through_environment, installed)
    return {
        **instructions.entrants(installed),
        "exact": ("heapkeeper, `--profile exact`", ours(profile="exact", seed=1)),
        "capture": (
            "heapkeeper, `--profile exact -o FILE`",
            ours(profile="exact", seed=1, output=scratch / "counted-%p.hk"),
        ),
    }


def columns(runs):
    """Figures by name, a value a round, null for a round that did not end well."""
    ran = [run for run in runs if run]
    parts = ran[0]["seconds"] if ran else ()
    return {
        "seconds": {part: [run and run["seconds"][part] for run in runs] for part in parts},
        **{name: [run and run[name] for run in runs] for name in ("whole_s", "peak_rss_mib", "capture_bytes")},
    }


def added(earlier, later):
    """Two results of a workload as one; who took part in one of them only has nulls for the other's rounds."""
    counts = earlier["rounds"], later["rounds"] - earlier["rounds"]

    def joined(old, new):
        known = new if old is None else old
        if isinstance(known, dict):
            return {name: joined(old and old[name], new and new[name]) for name in known}
        return [*(old or [None] * counts[0]), *(new or [None] * counts[1])]

    keys = [*earlier["cases"], *(key for key in later["cases"] if key not in earlier["cases"])]
    cases = {key: joined(earlier["cases"].get(key), later["cases"].get(key)) for key in keys}
    failed = {key: reason for key, reason in earlier["missing"].items() if key not in later["cases"]}
    return {**later, "cases": cases, "missing": {**failed, **later["missing"]}}


def with_earlier(part, earlier):
    """A part of the record whose rounds follow those of an earlier one: how disturbed both were, and how long they took."""
    spent_s = part["duration_s"] + earlier["duration_s"]
    disturbed = {
        who: round(sum(one["disturbance"][who] * one["duration_s"] for one in (part, earlier)) / spent_s, 4)
        for who in part["disturbance"]
    }
    return {**part, "disturbance": disturbed, "duration_s": round(spent_s, 1), "command": earlier["command"]}


def measure_all(chosen, record):
    """The chosen workloads on each interpreter, one after the other, into `record`."""
    for path in chosen.python:
        # Not resolved: a virtual environment's python is a link, and means its environment.
        python = Path(path).expanduser().absolute()
        about = machine.interpreter(python)
        name = f"{about['implementation']} {about['version']}"
        timing.say(f"{name}, heapkeeper {about['heapkeeper'] or 'not installed'}")
        entry = record["interpreters"].setdefault(name, {"parts": {}})
        entry["interpreter"] = about
        with tempfile.TemporaryDirectory() as scratch:
            bench = Bench(python, about, chosen, scratch)
            commit = machine.commit(SOURCES, last_change=True)
            facts = {"commit": commit, "heapkeeper": about["heapkeeper"], "versions": bench.versions()}
            for workload in chosen.workloads:
                kept = entry["parts"].get(workload) if chosen.add and workload != "instructions" else None
                if kept and (kept["commit"], kept["versions"]) != (commit, facts["versions"]):
                    timing.say(f"{workload}: the rounds kept are of {kept['commit']}, and go")
                    kept = None
                work = functools.partial(bench.measure, workload, kept and kept["result"])
                part = records.measured(SCRIPT, work, facts)
                entry["parts"][workload] = with_earlier(part, kept) if kept else part
                if not chosen.no_write:
                    records.write(RECORD, record)
                    page.write()


def main():
    chosen = options()
    record = records.read(RECORD, {"interpreters": {}})
    if chosen.render:
        page.write()
        return 0
    if chosen.quick:
        chosen.rounds, chosen.no_write, record = 1, True, {"interpreters": {}}
    try:
        measure_all(chosen, record)
    except KeyboardInterrupt:
        timing.say("stopped" if chosen.no_write else "stopped; the workloads that were done are kept")
        return 130
    if chosen.no_write:
        print(profiler_page.page(record), end="")
    else:
        timing.say(f"wrote {os.path.relpath(page.PAGE, machine.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
