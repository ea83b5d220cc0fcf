"""How a benchmark keeps its figures: measured with what a reader needs to judge them, and written so that diffs can be read."""

import json
import os
import re
import shlex
import sys
import time
from pathlib import Path

import machine
import timing

# Above this share of the processors' time, others disturb what is measured.
QUIET_SHARE = 0.05


def measured(script, work, about):
    """What `work` returns, as `result`, with when, how and on which machine it was measured, and with `about`."""
    others = machine.disturbance_now()["others"]
    if others > QUIET_SHARE:
        timing.say(f"note: others use {others:.0%} of the processors; figures for the record want a quiet machine")
    began, cpu_time = time.monotonic(), machine.CpuTime.now()
    result = work()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": shlex.join(["python", script, *shown_arguments()]),
        **about,
        "disturbance": machine.CpuTime.now().disturbance(cpu_time),
        "duration_s": round(time.monotonic() - began, 1),
        "machine": machine.facts(),
        "result": result,
    }


def shown_arguments():
    """The arguments as given; paths lose what is only of interest on this machine."""
    root, home = f"{machine.ROOT}{os.sep}", str(Path.home())
    return [argument.replace(root, "").replace(home, "~") for argument in sys.argv[1:]]


def read(path, otherwise):
    """A record, or `otherwise` where there is none yet."""
    return json.loads(path.read_text()) if path.exists() else otherwise


def write(path, record):
    """Keep a record. Whoever is stopped meanwhile leaves the old one whole."""
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(compact(json.dumps(record, indent=1, ensure_ascii=False)) + "\n")
    unfinished.replace(path)


def compact(text):
    """JSON with its lists of numbers on one line each, so that a diff of two records can be read."""
    return re.sub(r"\[([-+\d.e,\s]+)\]", lambda numbers: f"[{' '.join(numbers[1].split())}]", text)


def add_options(parser, rounds, of):
    """The options of every benchmark. `of`: whose rounds they are."""
    parser.add_argument(
        "--rounds", type=count, default=rounds, metavar="N", help=f"rounds of {of} (default %(default)s)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="small and unfit for the record: see that all of it runs; implies --no-write",
    )
    parser.add_argument("--no-write", action="store_true", help="print this part of the page instead of writing it")
    parser.add_argument("--render", action="store_true", help="measure nothing: write the page from the figures kept")


def add_interpreters(parser):
    """The option of the benchmarks that measure interpreters."""
    parser.add_argument(
        "--python",
        nargs="+",
        default=[sys.executable],
        metavar="PATH",
        help="interpreters to measure on, each with heapkeeper installed (default: this one)",
    )


def count(text):
    """A whole number of at least one, as an option's type."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number
