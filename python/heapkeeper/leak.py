"""What a function leaves behind at each call: it is called again and again, and growth is fitted by line.

After each round of calls garbage is collected and live bytes are noted, of everything and of each line that allocated. A
line grows if the slope of its bytes over calls is above zero with confidence, in all rounds and in each third of them: what
fills up once, a cache, a free list, a larger table, takes few steps, or stands still in one of the thirds. The total alone
accuses nobody: one thing may fill in each third.

The slope is the median of the slopes of all pairs of rounds, which a few odd rounds do not move, and its interval is read
off the same slopes: Theil 1950; P. K. Sen, "Estimates of the regression coefficient based on Kendall's tau", 1968, section 3.

Called by `heapkeeper leak` and by the pytest plugin's limit_leaks.
"""

import gc
import itertools
import math
from dataclasses import dataclass
from statistics import NormalDist, median

from heapkeeper import _exact
from heapkeeper.tracker import Frame

CONFIDENCE = 0.95

DEFAULT_TIMES = 50
DEFAULT_WARM_UP = 3

# With fewer rounds in a third no interval is narrow enough to tell.
MIN_TIMES = 10

# More rounds than these say little more, and pairs are their square. Calls are shared out among them.
_MAX_ROUNDS = 60

# Columns of a row of exact_sites.
_LIVE_BYTES, _LIVE_BLOCKS = 2, 3


@dataclass(frozen=True)
class Growth:
    """Bytes or blocks a call, and the interval that holds the truth with CONFIDENCE."""

    per_call: float
    low: float
    high: float

    @property
    def margin(self):
        """How far from `per_call` the interval reaches."""
        return max(self.high - self.per_call, self.per_call - self.low)


@dataclass(frozen=True)
class Line:
    """A line that grows."""

    growth: Growth
    """Of its live bytes."""
    blocks_per_call: float
    frames: tuple
    """The stack that grew most, as Frames, the innermost first: the line itself. Empty where no Python code allocated."""


@dataclass(frozen=True)
class Answer:
    """What was found."""

    calls: int
    """Calls that were measured."""
    warm_up: int
    """Calls before these."""
    interrupted: bool
    """Whether Ctrl-C ended it early."""
    total: Growth | None
    """Of all live bytes, those of lines that do not grow included; None where there were too few calls to tell."""
    lines: list
    """The Lines that grow, the fastest first."""
    grown_bytes: int
    """Live bytes at the end less those at the beginning."""

    @property
    def grows(self):
        return bool(self.lines)


def measure(function, times=DEFAULT_TIMES, warm_up=DEFAULT_WARM_UP, progress=None):
    """Call a function `warm_up` times and then `times` times, and tell what grows.

    times: MIN_TIMES at least. progress: called with the number of calls made, before each round. Ctrl-C ends the calls
    early; what the function raises comes through. Raises NotInstalledError where this interpreter cannot be served.
    """
    if times < MIN_TIMES or warm_up < 0:
        raise ValueError(f"at least {MIN_TIMES} calls to measure, and no less than 0 to warm up")
    _exact.begin()
    try:
        series = _Series()
        interrupted = False
        try:
            for number in range(warm_up):
                if progress is not None:
                    progress(number)
                function()
                gc.collect()
            series.note(0)
            done = 0
            for call in _round_ends(times):
                if progress is not None:
                    progress(warm_up + done)
                for _ in range(call - done):
                    function()
                done = call
                series.note(done)
        except KeyboardInterrupt:
            interrupted = True
        return series.answer(warm_up, interrupted)
    finally:
        _exact.end()


def _round_ends(times):
    """The number of the last call of each round."""
    rounds = min(times, _MAX_ROUNDS)
    return [times * (number + 1) // rounds for number in range(rounds)]


class _Series:
    """Live bytes after each round, in all and by line. A line's missing figures are zeros."""

    def __init__(self):
        self._calls = []
        self._totals = []
        self._bytes = {}
        self._blocks = {}
        self._first = []
        self._last = []
        self._taken = None

    def note(self, calls):
        """The state after so many calls."""
        gc.collect()
        self._read(calls)
        # What that built and dropped is in CPython's free lists now, from where the function would take it unseen. A full
        # collection empties them, but for the dict that it makes for its callbacks.
        self._taken = None
        gc.collect()
        self._taken = {}

    def _read(self, calls):
        from heapkeeper import _native

        # What is allocated in here is measured too, and known by where it comes from.
        rows = [row for row in _native.exact_sites() if not (row[0] and row[0][0][1] == __file__)]
        if not self._calls:
            self._first = rows
        self._last = rows
        place = len(self._calls)
        self._calls.append(calls)
        self._totals.append(sum(row[_LIVE_BYTES] for row in rows))
        for figures, column in ((self._bytes, _LIVE_BYTES), (self._blocks, _LIVE_BLOCKS)):
            for row in rows:
                line = row[0][0] if row[0] else None
                values = figures.setdefault(line, [])
                values += [0] * (place + 1 - len(values))
                values[place] += row[column]

    def answer(self, warm_up, interrupted):
        """What these figures say."""
        measured = self._calls[-1] if self._calls else 0
        if len(self._calls) <= MIN_TIMES:
            grown_bytes = self._totals[-1] - self._totals[0] if self._totals else 0
            return Answer(measured, warm_up, interrupted, None, [], grown_bytes)
        lines = []
        for line, values in self._bytes.items():
            values += [0] * (len(self._calls) - len(values))
            growth, grows = self._fit(values)
            if grows:
                blocks = self._blocks[line]
                blocks += [0] * (len(self._calls) - len(blocks))
                lines.append(Line(growth, slope(self._calls, blocks).per_call, self._fastest_stack(line)))
        lines.sort(key=lambda line: (-line.growth.per_call, line.frames))
        total = self._fit(self._totals)[0]
        return Answer(measured, warm_up, interrupted, total, lines, self._totals[-1] - self._totals[0])

    def _fit(self, values):
        """The slope, and whether it is above zero in all rounds and in each third of them."""
        if values[-1] == values[0] == min(values) == max(values):
            return Growth(0.0, 0.0, 0.0), False
        growth = slope(self._calls, values)
        ends = [(len(values) - 1) * part // 3 for part in range(4)]
        # Neighbours share the round between them, so that each step is in one of them.
        thirds = [slice(begin, end + 1) for begin, end in itertools.pairwise(ends)]
        grows = growth.low > 0 and all(slope(self._calls[third], values[third]).low > 0 for third in thirds)
        return growth, grows

    def _fastest_stack(self, line):
        """Of the stacks that end at a line, the one that grew most."""
        grown = {}
        for rows, sign in ((self._last, 1), (self._first, -1)):
            for row in rows:
                if (row[0][0] if row[0] else None) == line:
                    grown[row[0]] = grown.get(row[0], 0) + sign * row[_LIVE_BYTES]
        return tuple(Frame(*frame) for frame in max(grown, key=lambda frames: (grown[frames], frames)))


def slope(places, values):
    """How fast values grow from place to place, as Growth (Theil and Sen; the module's head says where from)."""
    slopes = sorted(
        (values[right] - values[left]) / (places[right] - places[left])
        for right in range(len(places))
        for left in range(right)
    )
    count = len(places)
    spread = math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * spread
    low = max(0, math.floor((len(slopes) - reach) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + reach) / 2))
    return Growth(median(slopes), slopes[low], slopes[high])
