"""What the clock says: alloc_mix on every rival, and the start of an interpreter with and without heapkeeper.

Rounds are interleaved: each round runs every rival once, in an order drawn anew, so that a slow minute of the machine
falls on all of them. Within a round all share one hash seed, so that they fill the same dicts in the same order.
"""

import json
import os
import random
import re
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
        raise RunFailed(ending(done.returncode, done.stderr.decode(errors="replace")))
    return done.stdout.decode()


def ending(status, errors):
    """How a process ended: its status, and of what it said the error, or the last line."""
    lines = errors.strip().splitlines()
    named = [line for line in lines if re.match(r"\w+(Error|Exception)\b", line)]
    return f"exit status {status}" + (f": {(named or lines)[-1]}" if lines else "")


def interleaved(title, missing, rounds, run, shown, once=(), first=0):
    """Rounds in which every entrant runs once, in an order drawn anew: entrant → runs; entrant → why it has none, or failed.

    `missing`: entrant → why it cannot take part, empty where it can; those in `once` run in the first round alone.
    `first` numbers the first round, where others were taken before.
    `run(entrant, round)` returns figures or raises, and who failed is not run again; `shown(figures)` is for who waits.
    """
    runs, missing = {key: [] for key in missing}, dict(missing)
    order = [key for key, reason in missing.items() if not reason]
    for number in range(first, first + rounds):
        random.Random(number).shuffle(order)
        say(f"{title}, round {number + 1} of {first + rounds}")
        for key in [key for key in order if not number or key not in once]:
            try:
                figures = run(key, number)
            except (RunFailed, subprocess.TimeoutExpired) as failure:
                say(f"  {key}: {failure}")
                missing[key] = f"failed in round {number + 1}: {failure}"
                order.remove(key)
                continue
            say(f"  {key:22} {shown(figures)}")
            runs[key].append(figures)
    return runs, missing


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
    entrants = {rival.key: rival for rival in [*rivals.peers(), *rivals.heapkeeper_runs(installed)]}
    runs, missing = interleaved(
        "alloc_mix",
        {key: rival.missing for key, rival in entrants.items()},
        rounds,
        lambda key, number: alloc_mix_run(entrants[key], python, share, seed=number + 1),
        lambda run: f"{run['total_s']:7.3f} s   peak {run['peak_rss_mib']} MiB, end {run['end_rss_mib']}",
    )
    kept = ("seconds", "total_s", "peak_rss_mib", "end_rss_mib")
    table = {
        key: {
            "label": rival.label,
            "baseline": rival.baseline,
            "missing": missing[key],
            "runs": [{name: run[name] for name in kept} for run in runs[key]],
        }
        for key, rival in entrants.items()
    }
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
