"""CPython's collector and ours: measures both under the same interpreter, keeps the figures, and writes the page.
`make bench-gc` runs this.

    .venv/bin/python benches/collector.py                           all but the largest heaps, in a quarter of an hour
    .venv/bin/python benches/collector.py --quick                   a look in two minutes; nothing is written
    .venv/bin/python benches/collector.py --workloads recycled shuffled trees pointers fresh --sizes 10
                                                                    these workloads and sizes; the others keep their figures
    .venv/bin/python benches/collector.py --python A B pypy3        other interpreters
    .venv/bin/python benches/collector.py --render                  the page again, from the figures kept

Figures go to benches/results/gc.json after each workload, and to their part of docs/benchmarks.md. Leave the machine alone
while it runs. Ctrl-C keeps the workloads that are done.
"""

import argparse
import dataclasses
import functools
import json
import shutil
import sys
from pathlib import Path

import collector_figures as figures
import collector_page
import collector_promises
import machine
import page
import records
import rivals
import service
import suite
import timing

RECORD = page.RESULTS / "gc.json"
SCRIPT = "benches/collector.py"
PROGRAMS = rivals.BENCHES / "workloads"
# What decides the figures: heapkeeper, and the workloads.
SOURCES = (*machine.MEASURED_SOURCES, "benches/workloads", "benches/service.py")
ROUNDS = 3
# Millions of objects. Ten take nearly as long as all the others together: `--sizes 10`.
SIZES = (0.1, 1, 3)
QUICK_SIZES = (0.1, 0.3)
# After the first. CPython's own cost does not change any more from the second on.
REPEATS = 3
GARBAGE_OBJECTS = 1_000_000
YOUNG_OBJECTS = 1_000_000
QUICK_OBJECTS = 100_000
# pyperformance's own benchmarks of collections.
SUITE = (suite.Benchmark("gc_collect", "gc_collect"), suite.Benchmark("gc_traversal", "gc_traversal"))


def options():
    parser = argparse.ArgumentParser(
        description="Measure heapkeeper's collector against CPython's own and write docs/benchmarks.md."
    )
    records.add_interpreters(parser)
    records.add_options(parser, ROUNDS, "every workload; heaps of another size than the page's have one")
    parser.add_argument(
        "--workloads",
        nargs="+",
        choices=tuple(collector_page.WORKLOADS),
        default=list(collector_page.WORKLOADS),
        metavar="NAME",
        help=f"what to measure: {', '.join(collector_page.WORKLOADS)} (default: all)",
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        type=millions,
        default=list(map(millions, SIZES)),
        metavar="M",
        help=f"millions of objects of the heaps (default: {' '.join(map(str, SIZES))})",
    )
    chosen = parser.parse_args()
    if pypy := shutil.which("pypy3"):
        chosen.python += [pypy] if chosen.python == [sys.executable] else []
    return chosen


def millions(text):
    """A number of objects, from millions."""
    return records.count(str(round(float(text) * 1e6)))


# --- one process ---


def output(rival, python, seed, program, *arguments):
    """What a workload says of one run. Raises `timing.RunFailed`, also where another collector or heap was at work."""
    command = rival.command(python, PROGRAMS / program, *arguments)
    run = json.loads(timing.output_of(command, rival.variables(PYTHONHASHSEED=str(seed))))
    return verified(run, rival)


def verified(run, rival):
    """A run that earned its name."""
    for what, wanted in (("served_by", rival.serves), ("collected_by", rival.collects)):
        if run[what] != wanted:
            raise timing.RunFailed(f"{what.replace('_', ' ')} {run[what]} instead of {wanted}")
    return run


class SameGarbage:
    """All runs of a workload make the same garbage: who found something else did something else."""

    def __init__(self):
        self.found = None

    def check(self, found):
        if self.found is None:
            self.found = found
        if self.found != found:
            raise timing.RunFailed(f"found {found} objects of garbage where the run before found {self.found}")


def columns(runs):
    """Figures by name, a value a run, instead of runs: they take less room in the record."""
    return {name: [run[name] for run in runs] for name in runs[0]} if runs else {}


# --- the workloads ---


def measure(title, cases, rounds, run, shown, once=()):
    """Every case in interleaved rounds: case → figures by name; why a case has none, or failed."""
    runs, missing = timing.interleaved(title, cases, rounds, run, shown, once)
    return {
        "rounds": rounds,
        "cases": {key: columns(done) for key, done in runs.items()},
        "missing": {key: reason for key, reason in missing.items() if reason},
    }


def heaps(entrants, python, rounds, kind, objects):
    """Full collections of a heap: each collector, with the globals behind the heap, and settled where there is an order."""
    orders = (False, True) if any(rival.collects == "cpython" for rival in entrants) else (False,)
    cases = {figures.case(rival.key, settled): (rival, settled) for rival in entrants for settled in orders}
    same = SameGarbage()

    def run(case, number):
        rival, settled = cases[case]
        words = [kind, objects, "--repeats", REPEATS, *(["--settled"] if settled else [])]
        told = output(rival, python, number + 1, "gc_heaps.py", *words)
        same.check(told["replaced"]["found"])
        timed = [told["first"], *told["repeated"], told["replaced"]]
        scratch = [collection["scratch_mib"] for collection in timed]
        return {
            **{name: told[name] for name in ("objects", "tracked_bytes", "resident_mib", "lasting_mib")},
            "scratch_mib": None if None in scratch else max(scratch),
            "first_s": told["first"]["s"],
            "again_s": [collection["s"] for collection in told["repeated"]],
            "replaced_s": told["replaced"]["s"],
            "first_phases": told["phases"]["first"],
            "again_phases": told["phases"]["repeated"],
        }

    def shown(told):
        ns = [
            seconds / told["objects"] * 1e9 for seconds in (told["first_s"], min(told["again_s"]), told["replaced_s"])
        ]
        return "first {:.0f}, again {:.0f}, after a tenth {:.0f} ns an object".format(*ns)

    once = [case for case, (rival, _) in cases.items() if rival.key == figures.ON_HEAP]
    waiting = {case: rival.missing for case, (rival, _) in cases.items()}
    return measure(f"{kind}, {objects:,} objects", waiting, rounds, run, shown, once)


def garbage(entrants, python, rounds, objects):
    """Heaps of nothing but garbage, of each kind."""
    cases = {f"{rival.key} {kind}": (rival, kind) for rival in entrants for kind in figures.GARBAGE}
    same = {kind: SameGarbage() for kind in figures.GARBAGE}

    def run(case, number):
        rival, kind = cases[case]
        told = output(rival, python, number + 1, "gc_garbage.py", kind, objects)
        same[kind].check([collection["found"] for collection in told["collections"]])
        return {
            "objects": told["objects"],
            "again_s": [collection["s"] for collection in told["collections"]],
            "again_phases": told["phases"],
        }

    def shown(told):
        return f"{min(told['again_s']) / told['objects'] * 1e9:.0f} ns an object"

    once = [case for case, (rival, _) in cases.items() if rival.key == figures.ON_HEAP]
    return measure("garbage", {case: rival.missing for case, (rival, _) in cases.items()}, rounds, run, shown, once)


def young(entrants, python, rounds, objects):
    """Young collections, and programs that allocate with automatic collection on."""
    by_key = {rival.key: rival for rival in entrants}

    def run(key, number):
        told = output(by_key[key], python, number + 1, "gc_young.py", objects)
        return {**told["ns"], "full_collections": told["full_collections"]}

    def shown(told):
        return ", ".join(f"{name} {told[name]:.1f}" for name in figures.YOUNG if told[name]) + " ns an object"

    waiting = {key: rival.missing for key, rival in by_key.items()}
    return measure("young", waiting, rounds, run, shown, once=(figures.ON_HEAP,))


def web_service(entrants, python, generational, rounds, load):
    """A web service under load, the collector on, off, and for the young alone."""
    cases = {rival.key: (rival, ()) for rival in entrants}
    for rival in entrants:
        if rival.key in (figures.BASE, figures.ON_HEAP):
            cases[f"{rival.key} off"] = (rival, ("--no-gc",))
            if generational:
                cases[f"{rival.key} young"] = (rival, ("--young",))
        if rival.key == figures.OWN:
            cases[figures.BESIDE] = (rivals.in_background(rival), ())

    def run(case, _):
        rival, words = cases[case]
        told = verified(service.run(rival, python, load, *words), rival)
        kept = ("requests_per_s", "full_collections", "peak_rss_mib")
        return {**told["latency_ms"], **{name: told[name] for name in kept}}

    def shown(told):
        return (
            f"{told['requests_per_s']:.0f} requests/s; p50 {told['p50']} ms, p99 {told['p99']} ms, max {told['max']} ms"
        )

    once = (figures.ON_HEAP, f"{figures.ON_HEAP} off", f"{figures.ON_HEAP} young")
    waiting = {case: rival.missing for case, (rival, _) in cases.items()}
    result = measure("service", waiting, rounds, run, shown, once)
    return {**result, "load": dataclasses.asdict(load)}


def suite_rivals(has_option, installed):
    """Who runs pyperformance's benchmarks: their processes are put on our heap and collector by the environment."""
    through = rivals.heapkeeper_through_environment
    on_heap = through(installed, **({"gc": "cpython"} if has_option else {}))
    ours = through(installed, gc="heapkeeper")
    missing = ours.missing or ("" if has_option else rivals.NO_GC_OPTION)
    return [
        rivals.peers()[0],
        dataclasses.replace(on_heap, key=figures.ON_HEAP),
        dataclasses.replace(ours, missing=missing),
    ]


def work_on(name, entrants, python, about, chosen, size):
    """What measures a workload."""
    objects = QUICK_OBJECTS if chosen.quick else {"garbage": GARBAGE_OBJECTS, "young": YOUNG_OBJECTS}.get(name)
    if name in figures.HEAPS:
        rounds = chosen.rounds if size == collector_promises.MAIN_SIZE else 1
        # Where one round is enough, CPython's collector on our heap is not asked.
        full = size == collector_promises.MAIN_SIZE or chosen.quick
        among = [rival for rival in entrants if full or rival.key != figures.ON_HEAP]
        return functools.partial(heaps, among, python, rounds, name, size)
    if name == "garbage":
        return functools.partial(garbage, entrants, python, chosen.rounds, objects)
    if name == "young":
        return functools.partial(young, entrants, python, chosen.rounds, objects)
    if name == "service":
        load = service.QUICK if chosen.quick else service.Load()
        generational = about["implementation"] == "CPython"
        return functools.partial(web_service, entrants, python, generational, chosen.rounds, load)
    compared = functools.partial(suite_rivals, not any(rival.missing == rivals.NO_GC_OPTION for rival in entrants))
    return functools.partial(suite.pyperformance, python, about, chosen.rounds, chosen.quick, SUITE, compared)


def measure_all(chosen, record):
    """The chosen workloads on each interpreter, one after the other, into `record`."""
    for path in chosen.python:
        # Not resolved: a virtual environment's python is a link, and means its environment.
        python = Path(shutil.which(path) or path).expanduser().absolute()
        about = machine.interpreter(python)
        name = f"{about['implementation']} {about['version']}"
        entrants = rivals.collectors(python, about["implementation"], about["heapkeeper"] is not None)
        timing.say(f"{name}, heapkeeper {about['heapkeeper'] or 'not installed'}")
        for rival in entrants:
            timing.say(f"  {rival.label}: {rival.missing or 'takes part'}")
        entry = record["interpreters"].setdefault(name, {"parts": {}})
        entry["interpreter"] = about
        facts = {"commit": machine.commit(SOURCES), "heapkeeper": about["heapkeeper"], "versions": {}}
        for workload in chosen.workloads:
            if workload == "pyperformance" and about["implementation"] != "CPython":
                continue
            for size in chosen.sizes if workload in figures.HEAPS else (None,):
                work = work_on(workload, entrants, python, about, chosen, size)
                part = f"{workload} {size}" if size else workload
                entry["parts"][part] = records.measured(SCRIPT, work, facts)
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
        chosen.sizes = list(map(millions, QUICK_SIZES))
    try:
        measure_all(chosen, record)
    except KeyboardInterrupt:
        timing.say("stopped" if chosen.no_write else "stopped; the workloads that were done are kept")
        return 130
    if chosen.no_write:
        print(collector_page.page(record), end="")
    else:
        timing.say(f"wrote {page.PAGE.relative_to(machine.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
