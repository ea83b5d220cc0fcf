"""Plays generated programs in this process and prints what came of each, a JSON array a line: seed, digest of its log, and the log if asked for.

    python player.py [options] FIRST LAST      the programs of these seeds, one after the other
    python player.py [options] --operations    the one program on standard input, as JSON

The first line says which allocator and which collector the programs ran on.
"""

import argparse
import gc
import hashlib
import json
import os
import random
import re
import sys
import warnings

import kinds
import programs
import world

POOL = 300


def pool(seed):
    """Objects of all kinds that are older than the programs, many of them tied to each other."""
    draw = random.Random(seed)
    makers = list(kinds.MAKERS.values())
    made = []
    for number in range(POOL):
        first, second = (draw.choice(made) if made and draw.random() < 0.3 else None for _ in range(2))
        made.append(draw.choice(makers)(number + 1_000_000, first, second))
    for _ in range(POOL):
        kinds.link(draw.choice(made), draw.choice(made))
    return made


def in_any_order(log):
    """A log with what happens between two operations, or inside one collection, sorted.

    3.12.1 begins collections that are due in a finalizer, though one is running. After which other finalizers depends on the order in which a full
    collection finalizes, and so these split nothing there. They themselves stay in their order.
    """
    told, inside = [], []
    depth = 0
    """Collections that run, from a full one on."""
    for line in log:
        is_phase = line.startswith("phase ")
        if depth and line.startswith("phase stop"):
            depth -= 1
        if depth and is_phase:
            told.append(line)
        elif is_phase or line[0].isdigit():
            told += [*sorted(inside), line]
            inside = []
        else:
            inside.append(line)
        if line.startswith("phase start") and (depth or "('generation', 2)" in line):
            depth += 1
    return told + sorted(inside)


def differ_by_order(expected, found):
    """Whether two logs as they were written show no more than the order of freeing inside full collections, where others come to see it.

    - In the youngest count afterwards: what a finalizer makes comes from a free list where its like was freed before, and then does not count; nor does
      what is freed count, where the count is 0 already.
    - In a census that a finalizer takes while trash is cleared: what was cleared and lives on is seen.
    """
    plain, seen, ends = zip(*map(without_what_shows_order, (expected, found)), strict=True)
    parted = [end for end, *lines in zip(ends[0], *seen, strict=False) if lines[0] != lines[1]]
    if len(seen[0]) != len(seen[1]) or not parted:
        return False
    return plain[0][: parted[0]] != plain[1][: parted[0]] and in_any_order(plain[0]) == in_any_order(plain[1])


def without_what_shows_order(log):
    """A log without the youngest counts, and without what was counted inside a full collection; these lines; and by where in the log their order was made."""
    plain, seen, ends, depth, waiting = [], [], [], 0, 0
    for i, line in enumerate(log):
        if line.startswith("phase start") and (depth or "('generation', 2)" in line):
            depth += 1
        elif depth and line.startswith("phase stop"):
            depth -= 1
        if line.startswith("count ") or (depth and line.startswith("census ")):
            seen.append(line)
            waiting += 1
            line = re.sub(r"^(count \w+ \(.*?\) \()\d+|^(census ).*", r"\1\2", line)
        plain.append(line)
        if not depth:
            ends += [i] * waiting
            waiting = 0
    return plain, seen, ends + [len(log)] * waiting


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--install", metavar="MODE", help="install heap and collector now, when the pool is there")
    parser.add_argument("--whole", action="store_true", help="collect what was there before the program as well")
    parser.add_argument("--bare", action="store_true", help="no collections but those asked for, and no counts")
    parser.add_argument("--pool", type=int, default=0, metavar="SEED", help="seed of the older objects")
    parser.add_argument("--logs", action="store_true", help="print the logs, not their digests alone")
    parser.add_argument("--unsorted", action="store_true", help="the logs as they were written, with --logs")
    parser.add_argument("--operations", action="store_true", help="read a program")
    parser.add_argument("seeds", nargs="*", type=int)
    options = parser.parse_args()

    warnings.simplefilter("ignore")
    # A thread goes on until it waits, and no other begins before.
    sys.setswitchinterval(1000)
    kinds.FINALIZERS["object"] = lambda instance: None
    older = pool(options.pool)
    import heapkeeper

    if options.install:
        heapkeeper.install(gc=options.install, profile="off")
    # As large services have it; the heaps of these programs are small.
    heapkeeper._native.gc_promote_always()
    status = heapkeeper.status()
    # Nested tuples are untracked from the inside, one level a collection in the worst order of the list.
    for _ in range(6):
        gc.collect()
    print(json.dumps([status["allocator"]["name"], status["collector"]["mode"]]), flush=True)
    del status
    if options.operations:
        todo = [(0, [tuple(each) for each in json.load(sys.stdin)])]
    else:
        todo = ((seed, programs.program(seed)) for seed in range(options.seeds[0], options.seeds[1] + 1))
    for seed, operations in todo:
        if options.bare:
            operations = [(-1, "bare", 0, 0, 0), *operations]
        kinds.LOG.clear()
        world.World(older, options.whole).play(operations)
        log = list(kinds.LOG) if options.unsorted else in_any_order(kinds.LOG)
        digest = hashlib.sha256("\n".join(log).encode()).hexdigest()[:16]
        print(json.dumps([seed, digest, log] if options.logs else [seed, digest]), flush=True)
    # What is left of the older objects is finalized by nobody: how an interpreter ends is tested elsewhere.
    os._exit(0)


if __name__ == "__main__":
    main()
