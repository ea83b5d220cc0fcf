"""Sizes and places as text, in what is printed from Python. Reports have their own, in Rust."""

import os

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size_text(size_bytes):
    """A number of bytes with a unit of 1024s and as many digits as one reads: 56 B, 1.2 KiB, 24.0 MiB."""
    size = float(size_bytes)
    unit = _UNITS[0]
    for unit in _UNITS:
        # 1023.95 and more would be printed as 1024.0.
        if abs(size) < 1023.95 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size:.0f} B" if unit == "B" and size == int(size) else f"{size:.1f} {unit}"


def place_text(frames):
    """Where a stack allocated, as "shop.py:9 in load"; files below this folder are named from here."""
    if not frames:
        return "outside Python code"
    function, file, line = frames[0]
    folder = os.path.join(os.getcwd(), "")
    return f"{file.removeprefix(folder)}:{line} in {function}"
