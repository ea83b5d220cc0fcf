"""Isolated interpreters

Claim: Isolated interpreters in one process have heaps of their own.
True: Since CPython 3.12, where each may have its own GIL. Before, interpreters of one process shared pools, and with them the
    lock. On our heap too each such interpreter has a heap of its own.
Expected:
    CPython 2.7, 3.6-3.7, PyPy, MicroPython, Jython: absent
    CPython 3.8-3.11, heapkeeper 3.10-3.11: false
    CPython 3.12+, heapkeeper 3.12+, Rust: true
"""

import json

POOL_BYTES = 4096  # or a multiple: what shares no piece of this size shares no pool


def import_interpreters():
    """The module, under the name it has in this version."""
    try:
        import _interpreters as module
    except ImportError:
        import _xxsubinterpreters as module
    return module


try:
    interpreters = import_interpreters()
except ImportError:
    interpreters = None

if interpreters is None:
    verdict, facts = "absent", {}
else:
    import os

    other = interpreters.create()
    # Half of the blocks in our pools are free: an interpreter that shares the pools takes those.
    ours = [object() for _ in range(20000)]
    del ours[::2]
    reader, writer = os.pipe()
    source = (
        "import os; kept = [object() for _ in range(1000)]; os.write(%d, repr([id(each) for each in kept]).encode())"
    )
    interpreters.run_string(other, source % writer)
    theirs = json.loads(os.read(reader, 1 << 16).decode())
    shared = {id(each) // POOL_BYTES for each in ours} & {address // POOL_BYTES for address in theirs}
    facts = {"other_interpreter_uses_our_pools": len(shared) > 0}
    verdict = "false" if shared else "true"
print(json.dumps(dict(facts, verdict=verdict)))
