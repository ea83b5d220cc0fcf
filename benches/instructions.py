"""What the clock cannot resolve: instructions and cache misses of alloc_mix, counted by valgrind's callgrind.

Counts hardly vary between runs (the hash seed and the sampler's seed are fixed), so one run of each is enough, and two
may run side by side. The caches are simulated, with the same sizes wherever this runs; TLB misses, which huge pages
save, are not counted at all. heapkeeper is installed through the environment here: one process, no exec to follow.
"""

import concurrent.futures
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import rivals
import timing

# Valgrind is some sixty times slower; a tenth of the repetitions has all the same objects in it.
SHARE = 0.1
SAMPLE_BYTES = "512K"
# size, ways, line: a core of 2023's servers. LL is one slice of a shared cache.
CACHES = ("--I1=32768,8,64", "--D1=49152,12,64", "--LL=33554432,16,64")
TIMEOUT_S = 1800


def entrants(installed):
    """Who is counted: CPython's own, heapkeeper without and with its sampling profiler."""
    ours = rivals.heapkeeper_through_environment
    return {
        "pymalloc": ("pymalloc", rivals.peers()[0]),
        "unsampled": ("heapkeeper, `--profile off`", ours(installed, profile="off")),
        "sampled": (
            "heapkeeper, sampling at 512 KiB",
            ours(installed, profile="sample", sample_bytes=SAMPLE_BYTES, seed=1),
        ),
    }


def counted(rival, python, share, caches, folder):
    """The events of one run: `instructions`, and with `caches` also `d1_misses` and `ll_misses`. Raises `RunFailed`."""
    report = Path(folder) / f"callgrind.{os.urandom(4).hex()}"
    valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={report}", "--quiet"]
    if caches:
        valgrind += ["--cache-sim=yes", *CACHES]
    command = [*valgrind, *rival.command(python, timing.ALLOC_MIX, share)]
    done = subprocess.run(
        command,
        env=rival.variables(PYTHONHASHSEED="0"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise timing.RunFailed(f"valgrind: exit status {done.returncode}" + (f": {lines[-1]}" if lines else ""))
    if f'"served_by": "{rival.serves}"' not in done.stdout:
        raise timing.RunFailed(f"did not run on {rival.serves} under valgrind")
    return events_of(report.read_text())


def events_of(report):
    """The totals of a callgrind report."""
    names = totals = None
    for line in report.splitlines():
        if line.startswith("events:"):
            names = line.split()[1:]
        elif line.startswith(("summary:", "totals:")):
            totals = [int(word) for word in line.split()[1:]]
    events = dict(zip(names, totals, strict=True))
    counts = {"instructions": events["Ir"]}
    if "D1mr" in events:
        counts["d1_misses"] = events["D1mr"] + events["D1mw"]
        counts["ll_misses"] = events["DLmr"] + events["DLmw"] + events["ILmr"]
    return counts


def instructions(python, compared, share=SHARE, caches=True):
    """Events by entrant (as `entrants` names them): key → label, counts, and why there are none."""
    table = {}
    tool = "" if shutil.which("valgrind") else "valgrind is not installed: apt install valgrind"
    for key, (label, rival) in compared.items():
        table[key] = {"label": label, "missing": tool or rival.missing, "counts": None}
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        tasks = {
            key: pool.submit(counted, rival, python, share, caches, folder)
            for key, (_, rival) in compared.items()
            if not table[key]["missing"]
        }
        timing.say(f"instructions: alloc_mix {share} under valgrind: {', '.join(tasks) or 'nobody'}")
        for key, task in tasks.items():
            try:
                table[key]["counts"] = task.result()
                timing.say(f"  {key:12} {table[key]['counts']}")
            except (timing.RunFailed, subprocess.TimeoutExpired) as failure:
                table[key]["missing"] = str(failure)
                timing.say(f"  {key}: {failure}")
    return {"share": share, "caches": list(CACHES) if caches else [], "entrants": table}
