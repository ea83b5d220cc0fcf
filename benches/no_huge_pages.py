"""Run a command on a machine without huge pages: `python no_huge_pages.py COMMAND [ARG…]`.

The kernel keeps the setting over exec and hands it to children, so the command needs to know nothing of it.
"""

import ctypes
import os
import sys

# <linux/prctl.h>
PR_SET_THP_DISABLE = 41


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: no_huge_pages.py COMMAND [ARG…]")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0:
        sys.exit(f"no_huge_pages.py: the kernel refused: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
