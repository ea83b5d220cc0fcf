"""Follows what HEAPKEEPER says, where that is more than its defaults: see `_heapkeeper_boot`, which calls this."""

import os
import sys


def follow(text):
    """Follow the text of HEAPKEEPER."""
    from heapkeeper import _settings

    try:
        settings = _settings.parse(text)
    except ValueError as error:
        complain(f"HEAPKEEPER ignored: {error}")
        return
    if not settings.on:
        return
    if _in_main_interpreter():
        _follow(settings)
    elif settings.allocator == "heapkeeper":
        _install_collector(settings)


def _follow(settings):
    reason = None
    if settings.allocator == "heapkeeper":
        from heapkeeper import _settings

        reason = _settings.install(settings)
        if reason is not None:
            complain(f"CPython's allocator stays: {reason}")
    if settings.log is not None:
        _log(settings.log, settings.allocator if reason is None else "cpython")
    if settings.report is not None and settings.report in (0, os.getpid()):
        from heapkeeper import _exit

        _exit.register(settings)
    _install_collector(settings)
    if reason is None and _asks_for_threads(settings):
        from heapkeeper import _capture

        for what, why in _capture.begin(settings):
            complain(f"{what}: {why}")
    if settings.as_tracemalloc:
        from heapkeeper import tracemalloc

        tracemalloc.replace()


def _asks_for_threads(settings):
    """Whether the settings ask for a capture, a watch over the heap or a socket."""
    asked = (settings.output, settings.at_heap, settings.on_limit, settings.socket)
    return settings.allocator == "heapkeeper" and any(value is not None for value in asked)


def _install_collector(settings):
    from heapkeeper import _settings

    reason = _settings.install_collector(settings)
    if reason is not None:
        complain(f"CPython's collector stays: {reason}")


def _in_main_interpreter():
    """Subinterpreters run `site` too. Heap, report and log line are the main interpreter's; a collector each has itself."""
    try:
        from heapkeeper import _native
    except ImportError:  # Whoever needs it will say so.
        return True
    return _native.in_main_interpreter()


def _log(path, allocator):
    """Append one line, in one write, so that processes starting at the same time do not mix theirs."""
    words = " ".join(sys.orig_argv).encode("unicode_escape").decode("ascii")
    line = f"{os.getpid()}\t{sys.version.split()[0]}\t{allocator}\t{words}\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def complain(text):
    """One line on stderr, if there is one: with 2>&- descriptor 2 may be any file, even heapkeeper.pth."""
    if sys.__stderr__ is None:
        return
    try:
        os.write(2, f"heapkeeper: {' '.join(text.split())}\n".encode(errors="backslashreplace"))
    except OSError:
        pass
