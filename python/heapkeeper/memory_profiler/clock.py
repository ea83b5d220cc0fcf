"""What the process has allocated more, given out once: to the thread that asks next, and to the process.

Invariant: process[0] = the sum of the threads' shares = live bytes now, less what was live when counting began and less
what grew between `stop` and `start`. Called by `events` around each event, and by whatever allocates for itself.
"""

import gc
import threading
from array import array
from contextlib import contextmanager

from heapkeeper.memory_profiler import backends


class Clock:
    """Numbers are kept in arrays, as an int that stays would count as growth itself."""

    def __init__(self):
        self.process = array("q", (0,))
        self._seen = array("q", (0,))
        self._live_bytes = None
        self._local = threading.local()

    def begin(self):
        """Count from now on until the process ends: what was allocated uncounted would be freed uncounted too."""
        if self._live_bytes is None:
            self._live_bytes = backends.live_reader()
            self._seen[0] = self._live_bytes()

    def stop(self, passed_bytes=0):
        """The program stands still while we work. passed_bytes: of objects that were made to call us.

        Returns this thread's share, as an array of one, and whether the collector is to be started again.
        """
        collecting = gc.isenabled()
        gc.disable()  # What a collection in here frees would be missing from all lines.
        seen = self._seen
        seen[0] = self._live_bytes() - passed_bytes - seen[0]
        self.process[0] += seen[0]
        try:
            share = self._local.share
        except AttributeError:
            share = self._local.share = array("q", (0,))
        share[0] += seen[0]
        return share, collecting

    def start(self, collecting, passed_bytes=0):
        """The program goes on."""
        self._seen[0] = self._live_bytes() - passed_bytes
        if collecting:
            gc.enable()

    @contextmanager
    def stopped(self):
        """A context whose memory is in no line."""
        _, collecting = self.stop()
        try:
            yield
        finally:
            self.start(collecting)


clock = Clock()
