import os
from typing import Literal, NamedTuple

class Frame(NamedTuple):
    function: str
    file: str
    line: int

class Site(NamedTuple):
    frames: tuple[Frame, ...]
    thread: str
    bytes: int
    blocks: int

class Tracker:
    def __init__(
        self, path: str | os.PathLike[str] | None = None, *, overwrite: bool = False, max_frames: int = 16
    ) -> None: ...
    def __enter__(self) -> Tracker: ...
    def __exit__(self, *exception: object) -> None: ...
    @property
    def peak_bytes(self) -> int: ...
    @property
    def live_bytes(self) -> int: ...
    @property
    def allocated_bytes(self) -> int: ...
    @property
    def allocated_blocks(self) -> int: ...
    def sites(self, moment: Literal["peak", "live", "total"] = "peak", top: int | None = 10) -> list[Site]: ...
