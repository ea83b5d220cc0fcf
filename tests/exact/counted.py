"""Runs generated programs under one of the two tracemallocs and prints a line of JSON for each: what was live, the peak, and each line's share.

    python tests/exact/counted.py standard|ours [--late] [--threads] [--collects] FIRST LAST

Run by agreement.py. Both sides import the same modules and start counting at the same point of the same process, so that all that is left to differ
is who counts.
"""

import gc
import json
import sys
import tracemalloc

import heapkeeper._settings  # What install() imports. Names are interned, and when that table grows must not depend on the side.
import heapkeeper.tracemalloc
import sources


def main(side, *arguments):
    options = {each for each in arguments if each.startswith("--")}
    first, last = [int(each) for each in arguments if not each.startswith("--")]
    module = {"standard": tracemalloc, "ours": heapkeeper.tracemalloc}[side]
    if side == "ours" and "--late" in options:
        heapkeeper.install(profile="off", gc="cpython")
    allocator = heapkeeper.status()["allocator"]["name"]
    assert allocator == {"standard": "cpython", "ours": "heapkeeper"}[side], allocator
    # What these functions keep for their next call is there before anything is counted.
    for _ in range(2):
        module.start(1)
        module.get_traced_memory()
        module.take_snapshot()
        module.stop()
    for seed in range(first, last + 1):
        program = sources.Program(seed, threads="--threads" in options, collects="--collects" in options)
        print(json.dumps([seed, *count(module, program, f"<program {seed}>", "--collects" in options)]), flush=True)


def count(module, program, name, collects):
    names = {"__name__": "program"}
    exec(compile(program.text, name, "exec"), names)
    slots = names["slots"]()
    # Free lists are emptied by full collections: both sides begin with none. When the next one is due depends on how many objects the last one saw.
    gc.freeze()
    gc.collect()
    if not collects:
        gc.disable()
    module.start(1)
    names["main"](slots)
    live, peak = module.get_traced_memory()
    # Dead objects in free lists are whose the snapshot makes them by taking them.
    gc.collect()
    snapshot = module.take_snapshot()
    module.stop()
    gc.enable()
    lines = {}
    for statistic in snapshot.statistics("lineno"):
        frame = statistic.traceback[0]
        if frame.filename == name:
            lines[frame.lineno] = [statistic.size, statistic.count]
    return live, peak, sorted(lines.items())


if __name__ == "__main__":
    main(*sys.argv[1:])
