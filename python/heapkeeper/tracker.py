"""`heapkeeper.Tracker`: what a piece of a program allocates, to the byte.

Trackers nest and overlap. The heap keeps one peak a process, so whoever lowers it hands what it was to the trackers that
are open: for each, peak = max(what it was handed, the heap's peak) - what was live when it began.

A process writes one capture at a time, so of the trackers that are open at the same time one may have a path.
"""

import _thread
import os
from array import array
from typing import NamedTuple

from heapkeeper import _exact

__all__ = ["Frame", "Site", "Tracker"]

# Moment: where its bytes are in a row of exact_sites, before its blocks, and where what they were before is.
_LIVE_FIGURES, _PEAK_FIGURES, _TOTAL_FIGURES = 2, 4, 6
_FIGURES = {
    "peak": (_PEAK_FIGURES, _LIVE_FIGURES),
    "live": (_LIVE_FIGURES, _LIVE_FIGURES),
    "total": (_TOTAL_FIGURES, _TOTAL_FIGURES),
}

# What is allocated here is in no site.
_OUR_FILES = (__file__, _exact.__file__, os.path.join(os.path.dirname(__file__), "_capture.py"))

# Places in Tracker._start.
_LIVE, _TOTAL, _TOTAL_BLOCKS = range(3)

_lock = _thread.RLock()
_open = []


class Frame(NamedTuple):
    """A place in a program."""

    function: str
    file: str
    line: int


class Site(NamedTuple):
    """A stack that allocated."""

    frames: tuple
    """Of Frames, the innermost first."""
    thread: str
    bytes: int
    blocks: int


class Tracker:
    """Counts what is allocated between the beginning and the end of a `with` block, by all threads, to the byte.

    path: where a capture of the block is written, for ``heapkeeper report``; %p in it is the pid. **None**: there is none.
    It holds what all threads allocate while the block runs; processes that are forked meanwhile are not in it.
    overwrite: whether a file of that name is replaced; **no**.
    max_frames: innermost frames of a stack that `sites` tells, **16**; if somebody counts already, theirs.

    peak_bytes, live_bytes, allocated_bytes, allocated_blocks tell of the moment they are read until the block ends, and of
    its end from then on. A Tracker may be used again, from the start.

    Raises, when it begins, NotInstalledError where this interpreter cannot be served; and with a path CaptureError where the
    capture cannot be written, or one is being written already.
    """

    def __init__(self, path=None, *, overwrite=False, max_frames=_exact.FRAMES):
        # Absolute: the program may leave the folder before the block begins.
        self._path = None if path is None else os.path.abspath(os.fspath(path))
        self._overwrite = overwrite
        self._capture = None
        self._max_frames = max_frames
        self._result = None
        self._begun = False
        self._start = array("q", (0, 0, 0))

    def __enter__(self):
        if self._begun:
            raise RuntimeError("this Tracker has begun already; make another")
        _exact.begin(self._max_frames)
        from heapkeeper import _native

        self._native = _native
        self._result = None
        self._handed_bytes = 0
        self._handed_rows = None
        with _lock:
            _hand_over_peak(_native)
            # Empty unless somebody counted before.
            self._before = {row[:2]: row for row in _native.exact_sites()}
            _open.append(self)
            self._begun = True
            _native.exact_reset_peak()
            if self._path is not None:
                try:
                    self._begin_capture()
                except BaseException:
                    self._close()
                    _exact.end()
                    raise
        # Last, when nothing is left to be freed, and into what is there already: all that follows counts.
        start = self._start
        start[_LIVE], _, _, start[_TOTAL], start[_TOTAL_BLOCKS] = _native.exact_usage()
        return self

    def __exit__(self, *_):
        with _lock:
            usage = self._usage()
            if self._capture is not None:
                # Another one by now, if somebody ended ours.
                if self._capture == self._native.capture_path():
                    self._native.capture_stop(False)
                self._capture = None
            rows = self._native.exact_sites()
            self._result = usage, {moment: self._sites(rows, moment) for moment in _FIGURES}
            self._close()
        _exact.end()

    def _close(self):
        _open[:] = [tracker for tracker in _open if tracker is not self]
        self._begun = False

    def _begin_capture(self):
        from heapkeeper import CaptureError, _capture, _files, _interpreter

        path = self._path.replace("%p", str(os.getpid()))
        written = self._native.capture_path()
        if written is not None:
            raise CaptureError(f"a capture is being written already, to {written}")
        if self._overwrite:
            try:
                _files.make_room(path)
            except OSError as error:
                raise CaptureError(f"{path}: {error.strerror}") from None
        _capture.end_at_exit()
        reason = self._native.capture_start(path, _interpreter.program())
        if reason is not None:
            raise CaptureError(reason)
        self._capture = path

    @property
    def peak_bytes(self):
        """The most that was live at once, of what was allocated inside."""
        return self._now()[0]

    @property
    def live_bytes(self):
        """Growth: what was allocated inside and not freed."""
        return self._now()[1]

    @property
    def allocated_bytes(self):
        """All that was allocated inside, freed or not."""
        return self._now()[2]

    @property
    def allocated_blocks(self):
        """How many allocations there were inside."""
        return self._now()[3]

    def sites(self, moment="peak", top=10):
        """The `top` stacks (None: all) with the most bytes, as Sites.

        moment: "peak" for what was live at the peak, "live" for what was not freed, "total" for all that was allocated.
        """
        if moment not in _FIGURES:
            raise ValueError(f"{moment!r} is not one of {', '.join(_FIGURES)}")
        if self._result is not None:
            sites = self._result[1][moment]
        elif self._begun:
            with _lock:
                sites = self._sites(self._native.exact_sites(), moment)
        else:
            raise RuntimeError("this Tracker has not begun; use it in a `with` statement")
        return sites[:top]

    def _now(self):
        if self._result is not None:
            return self._result[0]
        if not self._begun:
            raise RuntimeError("this Tracker has not begun; use it in a `with` statement")
        return self._usage()

    def _usage(self):
        live, peak, _, total, total_blocks = self._native.exact_usage()
        start = self._start
        peak = max(peak, self._handed_bytes)
        return peak - start[_LIVE], live - start[_LIVE], total - start[_TOTAL], total_blocks - start[_TOTAL_BLOCKS]

    def _sites(self, rows, moment):
        """What the rows of exact_sites say of a moment, less what was there before."""
        now, then = _FIGURES[moment]
        if moment == "peak" and self._handed_rows is not None and self._handed_bytes >= self._native.exact_usage()[1]:
            rows = self._handed_rows
        sites = []
        for row in rows:
            frames, thread = row[:2]
            before = self._before.get((frames, thread))
            site_bytes, blocks = row[now : now + 2]
            if before is not None:
                site_bytes -= before[then]
                blocks -= before[then + 1]
            if site_bytes > 0 and not (frames and frames[0][1] in _OUR_FILES):
                sites.append(Site(tuple(Frame(*frame) for frame in frames), thread, site_bytes, blocks))
        sites.sort(key=lambda site: (-site.bytes, site.frames))
        return sites


def _hand_over_peak(native):
    """Before the heap's peak is lowered: give it to the trackers that are open. Under the lock."""
    peak = native.exact_usage()[1]
    outdone = [tracker for tracker in _open if peak > tracker._handed_bytes]
    if outdone:
        # The capture has a tick with that peak, too.
        if any(tracker._capture is not None for tracker in outdone):
            native.capture_write()
        rows = native.exact_sites()
        for tracker in outdone:
            tracker._handed_bytes = peak
            tracker._handed_rows = rows


def reset_peak():
    """Let the heap's peak start again from what is live, at no tracker's cost."""
    from heapkeeper import _native

    with _lock:
        _hand_over_peak(_native)
        _native.exact_reset_peak()
