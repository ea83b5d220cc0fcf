from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heapkeeper.tracker import Frame

CONFIDENCE: float
DEFAULT_TIMES: int
DEFAULT_WARM_UP: int
MIN_TIMES: int

@dataclass(frozen=True)
class Growth:
    per_call: float
    low: float
    high: float
    @property
    def margin(self) -> float: ...

@dataclass(frozen=True)
class Line:
    growth: Growth
    blocks_per_call: float
    frames: tuple[Frame, ...]

@dataclass(frozen=True)
class Answer:
    calls: int
    warm_up: int
    interrupted: bool
    total: Growth | None
    lines: list[Line]
    grown_bytes: int
    @property
    def grows(self) -> bool: ...

def measure(
    function: Callable[[], object],
    times: int = ...,
    warm_up: int = ...,
    progress: Callable[[int], object] | None = None,
) -> Answer: ...
def slope(places: Sequence[float], values: Sequence[float]) -> Growth: ...
