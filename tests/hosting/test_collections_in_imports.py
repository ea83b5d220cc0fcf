"""A collection may come while a module's lock is being taken: whatever we do then, it takes no such lock."""

import os
import subprocess
import sys

PROGRAM = """
import gc, sys
gc.set_threshold(1, 1, 1)
for _ in range(30):
    for name in ("threading", "functools", "collections", "_weakrefset", "itertools"):
        sys.modules.pop(name, None)
    import threading
    kept = bytearray(1 << 20)
"""


def test_imports_go_on_while_the_collector_runs():
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HEAPKEEPER", "PYTHON"))}
    for profile in "sample-bytes=4096", "profile=exact":
        command = [sys.executable, "-c", PROGRAM]
        answer = subprocess.run(command, env=environment | {"HEAPKEEPER": profile}, capture_output=True, timeout=120)
        assert (answer.returncode, answer.stderr) == (0, b"")
