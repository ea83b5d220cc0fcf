"""The crate `heapkeeper` against Rc and other collectors for Rust: builds, measures, keeps the figures, writes the page.
`make bench-runtime` runs this.

    python benches/runtime.py                         everything
    python benches/runtime.py --quick                 a look in a minute; nothing is written
    python benches/runtime.py --workloads cycles      one workload; the others keep the figures they have
    python benches/runtime.py --render                the page again, from the figures kept

What is measured is the program in benches/runtime, which fetches the rivals from crates.io when it is built. Figures go to
benches/results/runtime.json after each workload, and to their part of docs/benchmarks.md. Leave the machine alone while it
runs. Ctrl-C keeps the workloads that are done.
"""

import argparse
import functools
import json
import os
import random
import subprocess
import sys

import machine
import page
import records
import rivals
import runtime_figures
import runtime_page
import timing

RECORD = page.RESULTS / "runtime.json"
PROJECT = rivals.BENCHES / "runtime"
# What decides the figures: the crate, what is below it, and the workloads.
SOURCES = ("crates", "benches/runtime", "Cargo.toml")
ROUNDS = 7
# A round of this one takes as long as all others together.
LONG_WORKLOADS = ("aged",)
LONG_ROUNDS = 3
QUICK_OBJECTS = 20_000
SCRIPT = "benches/runtime.py"
# What is the same in every run of a workload is kept once.
ALIKE = ("crate", "workload", "objects", "checksum")


class Stop(Exception):
    """Nothing can be measured; the text says why and what to do."""


def options():
    parser = argparse.ArgumentParser(
        description="Measure the crate heapkeeper against other crates and write docs/benchmarks.md."
    )
    records.add_options(parser, ROUNDS, f"every workload, {LONG_ROUNDS} at most of {', '.join(LONG_WORKLOADS)}")
    parser.add_argument(
        "--workloads",
        nargs="+",
        choices=tuple(runtime_page.WORKLOADS),
        default=list(runtime_page.WORKLOADS),
        metavar="NAME",
        help=f"what to measure: {', '.join(runtime_page.WORKLOADS)} (default: all)",
    )
    return parser.parse_args()


def build():
    """Compile the program, and return its path."""
    target = os.environ.get("CARGO_TARGET_DIR") or machine.ROOT / "target" / "bench-runtime"
    command = ["cargo", "build", "--release", "--manifest-path", PROJECT / "Cargo.toml"]
    command += ["--target-dir", target, "--message-format", "json-render-diagnostics"]
    timing.say("building benches/runtime")
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise Stop("cargo is not installed: see https://rustup.rs") from None
    if done.returncode != 0:
        raise Stop("benches/runtime was not built; cargo says why above")
    messages = map(json.loads, done.stdout.splitlines())
    return next(message["executable"] for message in messages if message.get("executable"))


def run_once(program, crate, workload, objects):
    """One process, as plain data. Raises `timing.RunFailed`."""
    command = [program, crate, workload, *(["--objects", str(objects)] if objects else [])]
    try:
        return json.loads(timing.output_of(command, rivals.clean_environment()))
    except timing.RunFailed as failure:
        # A process that ran out of stack says so itself, and dies by its own hand.
        if "stack overflow" in str(failure):
            raise timing.RunFailed(runtime_figures.STACK) from None
        raise
    except subprocess.TimeoutExpired:
        raise timing.RunFailed(f"was not done after {timing.TIMEOUT_S} s") from None


def measure(program, crates, workload, rounds, objects=None, run=run_once):
    """Every crate on one workload, in interleaved rounds: crate → runs, and why it has none."""
    table = {crate: {"missing": "", "runs": []} for crate in crates}
    order, checksum, objects_made = list(crates), None, None
    for number in range(rounds):
        random.Random(number).shuffle(order)
        timing.say(f"{workload}, round {number + 1} of {rounds}")
        for crate in list(order):
            try:
                figures = run(program, crate, workload, objects)
                checksum, objects_made = checksum or figures["checksum"], figures["objects"]
                if figures["checksum"] != checksum:
                    raise timing.RunFailed("computed something else than the crate before")
            except timing.RunFailed as failure:
                timing.say(f"  {crate}: {failure}")
                table[crate]["missing"] = str(failure)
                order.remove(crate)
                continue
            timing.say(f"  {crate:15} {shown(figures)}")
            table[crate]["runs"].append({key: value for key, value in figures.items() if key not in ALIKE})
            if figures["leaked_bytes_per_object"] > runtime_figures.LEAK_BYTES:
                # Its times will not be shown: more of them tell nothing.
                order.remove(crate)
    if checksum is None:
        raise Stop(f"{workload}: no crate did it")
    return {"rounds": rounds, "objects": objects_made, "checksum": checksum, "crates": table}


def shown(figures):
    """A run in a line: the fastest repetition of each phase, and the peak."""
    phases = ", ".join(f"{name} {min(times):.1f}" for name, times in figures["phases"].items())
    return f"{phases} ns an object, peak {figures['peak_bytes'] / 2**20:.1f} MiB"


def versions(crates):
    """rustc and the crates, ours as well."""
    rustc = {"rustc": machine.tool_version("rustc", "--version")}
    return {**rustc, **machine.locked_versions(PROJECT / "Cargo.lock", [name for name in crates if name != "rc"])}


def measure_all(chosen, record):
    """The chosen workloads, one after the other, into `record`."""
    program = build()
    crates = json.loads(timing.output_of([program, "list"], rivals.clean_environment()))["crates"]
    known = versions(crates)
    for workload in chosen.workloads:
        rounds = min(chosen.rounds, LONG_ROUNDS) if workload in LONG_WORKLOADS else chosen.rounds
        objects = QUICK_OBJECTS if chosen.quick else None
        about = {"commit": machine.commit(SOURCES), "heapkeeper": known["heapkeeper"], "versions": known}
        work = functools.partial(measure, program, crates, workload, rounds, objects)
        record["workloads"][workload] = records.measured(SCRIPT, work, about)
        if not chosen.no_write:
            records.write(RECORD, record)
            page.write()


def main():
    chosen = options()
    record = records.read(RECORD, {"workloads": {}})
    if chosen.render:
        page.write()
        return 0
    if chosen.quick:
        chosen.rounds, chosen.no_write, record = 1, True, {"workloads": {}}
    try:
        measure_all(chosen, record)
    except Stop as reason:
        timing.say(f"runtime.py: {reason}")
        return 1
    except KeyboardInterrupt:
        timing.say("stopped" if chosen.no_write else "stopped; the workloads that were done are kept")
        return 130
    if chosen.no_write:
        print(runtime_page.page(record), end="")
    else:
        timing.say(f"wrote {page.PAGE.relative_to(machine.ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
