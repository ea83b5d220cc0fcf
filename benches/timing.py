"""What the clock says: alloc_mix on every rival, and the start of an interpreter with and without heapkeeper.

Rounds are interleaved: each round runs every rival once, in an order drawn anew, so that a slow minute of the machine
falls on all of them. Within a round all share one hash seed, so that they fill the same dicts in the same order.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import rivals

ALLOC_MIX = rivals.BENCHES / "workloads" / "alloc_mix.py"
TIMEOUT_S = 600


def say(text):
    """Progress, on stderr: stdout is for the page."""
    print(text, file=sys.stderr, flush=True)


class RunFailed(Exception):
    """A measured process did not end well, or ran on something else than it was meant to."""


def output_of(command, environment):
    """What a measured process printed. Raises `RunFailed` with the end of its stderr."""
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S)
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise RunFailed(f"exit status {done.returncode}" + (f": {lines[-1]}" if lines else ""))
    return done.stdout.decode()


def alloc_mix_run(rival, python, share, seed):
    """One run of the workload, as plain data. Raises `RunFailed`."""
    command = rival.command(python, ALLOC_MIX, share)
    run = json.loads(output_of(command, rival.variables(PYTHONHASHSEED=str(seed))))
    if run["served_by"] != rival.serves:
        raise RunFailed(f"ran on {run['served_by']} instead of {rival.serves}")
    if run["huge_pages_allowed"] != rival.huge_pages:
        raise RunFailed("the huge page setting did not reach the process")
    return run


def alloc_mix(python, installed, rounds, share):
    """Every rival on alloc_mix: rival → label, baseline, runs, and why it is missing or failed."""
    entrants = [*rivals.peers(), *rivals.heapkeeper_runs(installed)]
    table = {
        rival.key: {"label": rival.label, "baseline": rival.baseline, "missing": rival.missing, "runs": []}
        for rival in entrants
    }
    order = [rival for rival in entrants if not rival.missing]
    for number in range(rounds):
        random.Random(number).shuffle(order)
        say(f"alloc_mix, round {number + 1} of {rounds}")
        for rival in list(order):
            try:
                run = alloc_mix_run(rival, python, share, seed=number + 1)
            except (RunFailed, subprocess.TimeoutExpired) as failure:
                say(f"  {rival.key}: {failure}")
                table[rival.key]["missing"] = f"failed in round {number + 1}: {failure}"
                order.remove(rival)
                continue
            say(f"  {rival.key:22} {run['total_s']:7.3f} s   peak {run['peak_rss_mib']} MiB, end {run['end_rss_mib']}")
            table[rival.key]["runs"].append(
                {name: run[name] for name in ("seconds", "total_s", "peak_rss_mib", "end_rss_mib")}
            )
    return {"rounds": rounds, "share": share, "rivals": table}


def startup(python, installed, runs):
    """Milliseconds to start an interpreter that does nothing: way of starting → label and milliseconds of each run."""
    script = Path(python).with_name("heapkeeper")
    ways = {
        "plain": ("plain python", [str(python), "-c", "pass"], {}),
        "environment": ("`HEAPKEEPER=1`", [str(python), "-c", "pass"], {"HEAPKEEPER": "1"}),
        "module": ("`python -m heapkeeper run`", [str(python), "-m", "heapkeeper", "run", "-q", "-c", "pass"], {}),
        "script": ("`heapkeeper run`", [str(script), "run", "-q", "-c", "pass"], {}),
    }
    table = {key: {"label": label, "missing": "", "milliseconds": []} for key, (label, _, _) in ways.items()}
    if not installed:
        for key in set(ways) - {"plain"}:
            table[key]["missing"] = "not installed for this interpreter: make build"
    elif not shutil.which(script):
        table["script"]["missing"] = "no heapkeeper beside this interpreter"
    order = [key for key in ways if not table[key]["missing"]]

    clean = rivals.clean_environment()
    # The first start of each reads files from disk and may compile them: not what is asked here.
    for number in range(-1, runs):
        random.Random(number).shuffle(order)
        for key in list(order):
            _, command, variables = ways[key]
            began = time.perf_counter()
            status = os.waitstatus_to_exitcode(
                os.waitpid(os.posix_spawn(command[0], command, {**clean, **variables}), 0)[1]
            )
            elapsed_ms = (time.perf_counter() - began) * 1000
            if status != 0:
                table[key]["missing"] = f"exit status {status}"
                order.remove(key)
            elif number >= 0:
                table[key]["milliseconds"].append(round(elapsed_ms, 3))
    say(f"start-up: {runs} runs each of {', '.join(order)}")
    return {"runs": runs, "ways": table}
