"""Runs a program while a thread collects, again and again, at moments that the program does not choose.

    python collecting.py SCRIPT | -m MODULE [ARG…]

What verify mode found goes to the file that VERIFIED names, as JSON.
"""

import gc
import json
import os
import runpy
import sys
import threading
import time

# The thread waits so many times as long as a collection took.
WAITS = 4
LEAST_WAIT_S = 0.02

ended = threading.Event()


def collect():
    wait_s = LEAST_WAIT_S
    while not ended.wait(wait_s):
        began = time.perf_counter()
        gc.collect()
        wait_s = max(LEAST_WAIT_S, WAITS * (time.perf_counter() - began))


def leave():
    """What was found so far; the last process to leave is the one that was started here."""
    from heapkeeper import gc as collector

    found = collector.stats()
    with open(os.environ["VERIFIED"], "w") as file:
        json.dump({"mode": found["mode"], "verified": found["verified"]}, file)


def main():
    gc.set_threshold(500, 5, 5)
    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    try:
        if sys.argv[1] == "-m":
            module = sys.argv[2]
            sys.argv[:] = sys.argv[2:]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            sys.argv[:] = sys.argv[1:]
            sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
            runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        ended.set()
        thread.join()
        leave()


if __name__ == "__main__":
    main()
