"""What makes and runs interpreters, in programs for any version."""

INTERPRETERS = """
import gc, os, sys, threading
try:
    import _interpreters as low
except ImportError:
    import _xxsubinterpreters as low

def create(own_gil):
    if sys.version_info >= (3, 13):
        return low.create("isolated" if own_gil else "legacy")
    if sys.version_info >= (3, 12):
        return low.create(isolated=own_gil)
    return low.create(isolated=False)

def run(interpreter, code):
    failure = low.run_string(interpreter, code)
    assert failure is None, failure
"""
