"""Whether heapkeeper can be built for the interpreter that runs this; if not, says why and exits with 1.

Called by `make build` before anything else, by whatever `python3` is: keeps to what every Python 3 can read.
"""

import importlib.util
import os
import sys
import sysconfig


def problem():
    """What is missing, or None."""
    if sys.implementation.name != "cpython" or sys.version_info < (3, 10):
        return "heapkeeper needs CPython 3.10 or later"
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    if not os.path.exists(header):
        return f"its headers are missing ({header}): install python3-dev or the like"
    if importlib.util.find_spec("ensurepip") is None:
        return "it cannot make virtual environments: install python3-venv or the like"
    return None


if __name__ == "__main__":
    found = problem()
    if found is not None:
        version = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"{sys.executable} ({version}): {found}; or name another one: make PYTHON=/path/to/python3")
