"""Processes of the installed package and of plain python, side by side, as a user would start them."""

import functools
import os
import signal
import subprocess
import sys
import sysconfig
import textwrap
from dataclasses import dataclass
from pathlib import Path

COMMAND = str(Path(sysconfig.get_path("scripts")) / "heapkeeper")

# Nothing here takes a second; what hangs must fail and say where.
TIMEOUT_S = 60


@dataclass(frozen=True)
class Outcome:
    """What a process left behind."""

    status: int
    """As subprocess gives it: negative for a signal."""
    stdout: str
    stderr: str


class Driver:
    """Starts processes in a folder of their own, with an environment that holds nothing of the caller's settings."""

    def __init__(self, folder: Path):
        self.folder = folder
        steering = ("PYTHON", "HEAPKEEPER", "COLUMNS", "NO_COLOR", "LC_", "LANG", "__PYVENV")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(steering)}
        self.environment |= {"LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}

    def write(self, name, text):
        """A file in the folder; returns its name, as scripts are started from there."""
        (self.folder / name).write_text(text)
        return name

    def start(self, command, *, env=(), **options):
        """A running process. It minds SIGINT, even where the tests run in the background of a shell that has it ignored."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "cwd": self.folder} | options
        options.setdefault("preexec_fn", functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL))
        return subprocess.Popen(command, env=self.environment | dict(env), **options)

    def call(self, command, *, stdin="", **options):
        """The outcome of a process."""
        with self.start(command, stdin=subprocess.PIPE, **options) as process:
            try:
                stdout, stderr = process.communicate(stdin.encode(), TIMEOUT_S)
            except BaseException:
                process.kill()
                raise
        return Outcome(process.returncode, (stdout or b"").decode(), (stderr or b"").decode())

    def python(self, *arguments, **options):
        """Plain python."""
        return self.call([sys.executable, *arguments], **options)

    def run(self, *arguments, **options):
        """`heapkeeper run`."""
        return self.call([COMMAND, "run", *arguments], **options)

    def same(self, *target, flags=(), **options):
        """Checks that a program comes out as under plain python: output, errors, exit status; returns how.

        Every way to start it: the command, `python -m heapkeeper` with the interpreter's flags, and with a report,
        which must come after everything else.
        """
        plain = self.python(*flags, *target, **options)
        if not flags:
            assert self.run("-q", *target, **options) == plain
        module = [sys.executable, *flags, "-m", "heapkeeper", "run"]
        assert self.call([*module, "-q", *target], **options) == plain
        reported = self.call([*module, *target], **options)
        assert (reported.status, reported.stdout) == (plain.status, plain.stdout)
        assert reported.stderr.startswith(plain.stderr)
        assert "heapkeeper" in reported.stderr[len(plain.stderr) :].splitlines()[0]
        return plain


ON_OUR_HEAP = """\
import heapkeeper
allocator = heapkeeper.status()["allocator"]
if allocator["name"] != "heapkeeper":
    raise SystemExit(f"not on our heap: {allocator}")
"""


@dataclass(frozen=True)
class Run:
    """Runs a program and holds what came of it."""

    python: str = sys.executable

    def __call__(
        self,
        program: str,
        *,
        heapkeeper: str | None = "on",
        flags: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        status: int = 0,
        check_heap: bool = True,
        quiet: bool = True,
        timeout_s: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program; asserts its exit status and, if `quiet`, that nothing came on stderr. `heapkeeper=None` runs it plain."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("HEAPKEEPER", "PYTHON"))}
        variables |= environment or {}
        if heapkeeper is not None:
            variables["HEAPKEEPER"] = heapkeeper
        code = textwrap.dedent(program)
        if check_heap and heapkeeper is not None:
            code = ON_OUR_HEAP + code
        answer = subprocess.run(
            [self.python, *flags, "-c", code, *arguments],
            env=variables,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
        assert answer.returncode == status, (
            f"exit status {answer.returncode}\n{answer.stdout[-2000:]}\n{answer.stderr[-4000:]}"
        )
        if quiet:
            assert answer.stderr == "", answer.stderr[-4000:]
        return answer
