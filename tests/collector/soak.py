"""Real programs under load with every full collection checked against CPython's own; fails if one differs (`make soak-gc`).

    python tests/collector/soak.py                            ten minutes of each program
    python tests/collector/soak.py --minutes 1 --only flask   one minute of one

An asyncio service and a Flask application with their clients run for the whole time, in one process each. numpy and pandas work, and black over the
standard library, are repeated until the time is over. A thread of each process collects all the while (collecting.py). What verify mode says of a
difference stays in build/soak-gc/.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGES = HERE.parent / "packages"
sys.path[:0] = [str(HERE.parent / "cpython"), str(PACKAGES)]

import black_stdlib  # noqa: E402
import interpreters  # noqa: E402

RESULTS = interpreters.PROJECT / "build" / "soak-gc"
# One program of those that are repeated; black over the whole library takes minutes.
PROGRAM_TIMEOUT_S = 3600

PROGRAMS = {
    "asyncio": "asyncio_load",
    "flask": "flask_load",
    "numpy": "numpy_arrays",
    "pandas": "pandas_frames",
    "pools": "array_pools",
}
BLACK = "black"


@dataclass
class Tally:
    """What became of one program."""

    runs: int = 0
    collections: int = 0
    """Compared, in the processes that were started here."""
    differences: int = 0
    """Processes that found one, their children included."""
    trouble: str = ""


class Soak:
    """Runs programs of one interpreter under verify mode."""

    def __init__(self, python: Path, folder: Path, minutes: float):
        self.python, self.folder, self.seconds = python, folder, minutes * 60

    def soak(self, name: str) -> Tally:
        tally = Tally()
        end = time.monotonic() + self.seconds
        while not tally.trouble and (not tally.runs or time.monotonic() < end):
            tally.runs += 1
            self.run(name, tally, end - time.monotonic())
        return tally

    def run(self, name: str, tally: Tally, left_s: float) -> None:
        """Runs a program once, for as long as is left if it can."""
        found = self.folder / name
        found.mkdir(parents=True, exist_ok=True)
        # Not in the project: black would take its settings and leave out what is in a folder named build.
        work = Path(tempfile.mkdtemp(prefix="soak"))
        command = [self.python, "-W", "ignore", HERE / "collecting.py", *self.target(name, work)]
        environment = interpreters.clean_environment() | {
            "HEAPKEEPER": "gc=verify",
            "TMPDIR": str(found),
            "VERIFIED": str(work / "verified.json"),
            "PROOF": str(work / "proof.json"),
            "SOAK_S": str(max(0.0, left_s)),
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "BLACK_CACHE_DIR": str(work / "cache"),
        }
        output = self.folder / f"{name}.out"
        with output.open("wb") as file:
            try:
                status = subprocess.run(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    cwd=work,
                    timeout=PROGRAM_TIMEOUT_S + self.seconds,
                ).returncode
            except subprocess.TimeoutExpired:
                status = "none: it hangs"
        self.judge(name, tally, status, work, output)
        shutil.rmtree(work, ignore_errors=True)

    def target(self, name: str, work: Path) -> list[str | Path]:
        if name != BLACK:
            return [PACKAGES / "programs" / f"{PROGRAMS[name]}.py"]
        library = black_stdlib.library_of(self.python)
        for source in black_stdlib.files(library, tests=False):
            copy = work / "library" / source.relative_to(library)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        return ["-m", "black", "--workers", "1", work / "library"]

    def judge(self, name: str, tally: Tally, status: int | str, work: Path, output: Path) -> None:
        verified = work / "verified.json"
        record = json.loads(verified.read_text()) if verified.exists() else {"mode": None, "verified": None}
        if record["verified"]:
            tally.collections += record["verified"]["collections"]
        tally.differences = len(list((self.folder / name).glob("heapkeeper-verify-*.json")))
        # black: 123 says that some files could not be parsed, as is meant.
        if status not in ((0, 123) if name == BLACK else (0,)) or "No Python files" in output.read_text(
            errors="replace"
        ):
            tally.trouble = f"exit status {status}, see {output}"
        elif record["mode"] != "verify" or not record["verified"]["collections"]:
            tally.trouble = f"nothing was verified: {record}"
        elif tally.differences or record["verified"]["differences"]:
            tally.trouble = f"collections differ from CPython's, see {self.folder / name}"
        elif "False" in output.read_text(errors="replace"):
            tally.trouble = f"the program's own checks failed, see {output}"


def main() -> int:
    names = [*PROGRAMS, BLACK]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, metavar="N", help="for each program (default: 10)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="the interpreter (default: this one)")
    options = parser.parse_args()

    interpreter = interpreters.inspect(options.python)
    if interpreter is None:
        raise SystemExit(f"{options.python} is no CPython 3.10 to 3.13")
    python = interpreters.ensure(
        interpreter, name=f"packages-{interpreter.series}", requirements=black_stdlib.REQUIREMENTS
    )
    folder = RESULTS / interpreter.series
    shutil.rmtree(folder, ignore_errors=True)
    soak = Soak(python, folder, options.minutes)
    failed = False
    for name in options.only:
        began = time.monotonic()
        tally = soak.soak(name)
        failed |= bool(tally.trouble)
        print(
            f"{interpreter.series} {name}: {tally.runs} runs, {tally.collections:,} collections compared, "
            f"{time.monotonic() - began:.0f} s{': ' + tally.trouble.upper() if tally.trouble else ''}",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
