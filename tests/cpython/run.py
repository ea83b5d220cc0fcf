"""CPython's own tests, plain and on our heap, compared case by case.

For every interpreter: an environment with heapkeeper in it, then each test module in a process of its own, once with HEAPKEEPER unset and once
with it, in the same environment. A case whose verdict differs is repeated on both sides before it is called a difference. Exits with 0 only if
every difference has a row in known-differences.tsv and every module really ran on our heap.

    python tests/cpython/run.py                          every interpreter found, every module (`make test-cpython`)
    python tests/cpython/run.py --subset quick           a few minutes an interpreter
    python tests/cpython/run.py --only test_gc test_os   some modules
    python tests/cpython/run.py --gc verify --subset gc  with our collector, or checked against CPython's own, in every process
    python tests/cpython/run.py --write-docs             also writes docs/cpython-tests.md

Outputs, verdicts and process records stay in build/cpython-tests/VERSION/.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import document
import interpreters
import modules
import starts
import verdicts
from interpreters import PROJECT, Interpreter
from verdicts import PROCESS, Difference, Known, Outcome

HERE = Path(__file__).resolve().parent
RESULTS = PROJECT / "build" / "cpython-tests"
REPETITIONS = 3
# A module that took longer is repeated by its differing cases only.
REPEAT_WHOLE_BELOW_S = 60


@dataclass
class Result:
    """What came of one module under one interpreter; kept as JSON beside its outputs."""

    module: str
    family: str
    sources: str
    """Fingerprint of the heapkeeper that ran."""
    cases: int = 0
    tally: dict[str, int] = field(default_factory=dict)
    """Verdict to number of cases, on our heap."""
    seconds: tuple[float, float] = (0.0, 0.0)
    """Plain, ours."""
    differences: list[dict] = field(default_factory=list)
    unsettled: list[dict] = field(default_factory=list)
    """Cases that differed once and behaved alike when repeated."""
    census: dict = field(default_factory=dict)
    trouble: str = ""
    """Why the run proves nothing: it was not on our heap, or the module did not run at all."""


class Bench:
    """Runs modules of one interpreter."""

    def __init__(self, interpreter: Interpreter, python: Path, preload: Path, sources: str, collector: str | None):
        self.interpreter, self.python, self.preload, self.sources = interpreter, python, preload, sources
        self.collector = collector
        self.folder = RESULTS / interpreter.series
        self.stand_in_folder = self.folder / "stand-ins"
        installed = modules.installed(python)
        self.stand_ins = modules.stand_ins(installed, self.stand_in_folder)
        self.available = installed | self.stand_ins

    def run_side(self, module: str, side: str, only: list[str] | None = None) -> tuple[Outcome, starts.Census | None]:
        """One run of a module; `side` is `plain` or `ours`, with a suffix for a repetition."""
        folder = self.folder / module
        folder.mkdir(parents=True, exist_ok=True)
        files = {part: folder / f"{side}.{part}" for part in ("cases", "out", "starts", "log")}
        for path in [*files.values(), *folder.glob(f"{side}.heapkeeper-verify-*")]:
            path.unlink(missing_ok=True)
        temporary = tempfile.mkdtemp(prefix="cpt")
        environment = interpreters.clean_environment()
        environment |= {"LD_PRELOAD": str(self.preload), "STARTS_LOG": str(files["starts"]), "TMPDIR": temporary}
        if side.startswith("ours"):
            environment["HEAPKEEPER"] = ",".join([f"log={files['log']}", *gc_setting(self.collector)])
        command = [self.python, HERE / "recorder.py", files["cases"], "-v", "--timeout", str(modules.CASE_TIMEOUT_S)]
        command += ["-u", modules.resources(self.interpreter.version)]
        targets = [module]
        if module in self.stand_ins:
            command += ["--testdir", self.stand_in_folder]
            targets = modules.parts(module)
        for case in only or []:
            command += ["-m", case]
        began = time.monotonic()
        code, timed_out = run_group(
            [*command, *targets], files["out"], environment, temporary, modules.timeout_s(module)
        )
        found, reasons = verdicts.read(files["cases"])
        found[PROCESS] = verdicts.ending(code, timed_out)
        for path in Path(temporary).rglob("heapkeeper-verify-*.json"):
            shutil.move(path, folder / f"{side}.{path.name}")
        shutil.rmtree(temporary, ignore_errors=True)
        outcome = Outcome(found, reasons, time.monotonic() - began)
        census = starts.census(files["starts"], files["log"], self.python) if side.startswith("ours") else None
        return outcome, census

    def repeat(self, module: str, differences: list[Difference], seconds: float) -> None:
        """Runs the differing cases again on both sides and notes their verdicts."""
        cases = [each.case for each in differences if each.case != PROCESS]
        crashed = any(each.case == PROCESS and not each.ours[0].startswith("exit") for each in differences)
        whole = (
            crashed
            or seconds < REPEAT_WHOLE_BELOW_S
            or not cases
            or not all(re.fullmatch(r"[\w.]+", case) for case in cases)
        )
        for turn in range(1, REPETITIONS + 1):
            plain, _ = self.run_side(module, f"plain-{turn}", None if whole else cases)
            ours, _ = self.run_side(module, f"ours-{turn}", None if whole else cases)
            for each in differences:
                each.plain.append(plain.verdicts.get(each.case, verdicts.ABSENT))
                each.ours.append(ours.verdicts.get(each.case, verdicts.ABSENT))

    def run(self, module: str) -> Result:
        """Both sides of one module, compared."""
        plain, _ = self.run_side(module, "plain")
        ours, census = self.run_side(module, "ours")
        differences = verdicts.compare(plain, ours)
        if differences:
            self.repeat(module, differences, max(plain.seconds, ours.seconds))
        result = Result(module, modules.family(module), self.sources)
        result.cases = len(plain.verdicts.keys() | ours.verdicts.keys())
        for verdict in ours.verdicts.values():
            result.tally[verdict] = result.tally.get(verdict, 0) + 1
        result.seconds = (round(plain.seconds, 1), round(ours.seconds, 1))
        result.differences = [each.as_dict() for each in differences if not each.is_settled]
        result.unsettled = [each.as_dict() for each in differences if each.is_settled]
        result.census = asdict(census)
        if census.on_heap == 0:
            result.trouble = "no process ran on our heap"
        if found := list((self.folder / module).glob("ours*.heapkeeper-verify-*")):
            result.trouble = f"collections differ from CPython's in {len(found)} processes: {found[0]}"
        if result.cases == 1 and plain.verdicts[PROCESS] not in (verdicts.ending(0, False), verdicts.NO_TESTS):
            result.trouble = f"the module did not run under plain python: {plain.verdicts[PROCESS]}"
        self.file(module).write_text(json.dumps(asdict(result), indent=1))
        return result

    def file(self, module: str) -> Path:
        return self.folder / f"{module}.json"

    def kept(self, module: str) -> Result | None:
        """The result of an earlier run with the same heapkeeper, if there is one."""
        if not self.file(module).exists():
            return None
        result = Result(**json.loads(self.file(module).read_text()))
        return result if result.sources == self.sources else None


def gc_setting(mode: str | None) -> list[str]:
    """What the environment of our side says of the collector."""
    return [f"gc={mode}"] if mode else []


def run_group(
    command: list, output: Path, environment: dict[str, str], folder: str, timeout_s: float
) -> tuple[int, bool]:
    """Runs a command as a process group that does not outlive it; its exit status, and whether its time was up."""
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        timed_out = False
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            timed_out = True
            process.send_signal(signal.SIGABRT)  # faulthandler writes where every thread is
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                pass
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return process.wait(), timed_out


def describe(interpreter: Interpreter, result: Result, known: list[Known]) -> str:
    """One line, and one more for each difference."""
    census = result.census
    line = (
        f"{interpreter.series} {result.module}: {result.cases - len(result.differences)} of {result.cases} verdicts equal; "
        f"{census['on_heap']} of {census['started']} processes on our heap; {result.seconds[0]:.0f} s plain, {result.seconds[1]:.0f} s ours"
    )
    lines = [line + (f"; {result.trouble.upper()}" if result.trouble else "")]
    for each, cause in zip(
        result.differences, verdicts.causes(interpreter.version, result.differences, known), strict=True
    ):
        title = f"known ({cause})" if cause else "DIFFERS"
        lines.append(
            f"    {title}: {each['case']}: plain {', '.join(each['plain'])}; ours {', '.join(each['ours'])}. {each['reason']}"
        )
    for each in result.unsettled:
        lines.append(f"    unsteady: {each['case']}: plain {', '.join(each['plain'])}; ours {', '.join(each['ours'])}")
    return "\n".join(lines)


def is_explained(interpreter: Interpreter, result: Result, known: list[Known]) -> bool:
    """Whether nothing in a result is new."""
    return all(verdicts.causes(interpreter.version, result.differences, known)) and not result.trouble


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--python", nargs="+", metavar="PATH", help="interpreters (default: every one found, 3.10 to 3.13)"
    )
    parser.add_argument(
        "--subset", choices=sorted(modules.SUBSETS), default="full", help="which modules (default: full)"
    )
    parser.add_argument(
        "--gc",
        choices=("cpython", "heapkeeper", "verify"),
        help="the collector on our side (default: heapkeeper's own default)",
    )
    parser.add_argument("--only", nargs="+", metavar="MODULE", help="these modules instead of a subset")
    parser.add_argument("-j", "--jobs", type=int, default=2, metavar="N", help="modules at a time (default: 2)")
    parser.add_argument(
        "--resume", action="store_true", help="keep results that this same heapkeeper already has in build/"
    )
    parser.add_argument("--write-docs", action="store_true", help="write docs/cpython-tests.md")
    parser.add_argument("--project", type=Path, default=PROJECT, metavar="FOLDER", help=argparse.SUPPRESS)
    return parser.parse_args()


def chosen(paths: list[str] | None) -> list[Interpreter]:
    """The interpreters to run."""
    if not paths:
        found = interpreters.find()
        if not found:
            raise SystemExit(
                "no CPython 3.10 to 3.13 with its tests was found in pyenv or on PATH; name one with --python"
            )
        return found
    inspected = [interpreters.inspect(path) for path in paths]
    for path, interpreter in zip(paths, inspected, strict=True):
        if interpreter is None:
            raise SystemExit(f"{path} is no CPython 3.10 to 3.13")
    return inspected


def run_interpreter(
    interpreter: Interpreter, options: argparse.Namespace, known: list[Known], preload: Path, sources: str
) -> tuple[document.Chapter, bool]:
    """Everything under one interpreter; its chapter, and whether nothing in it is unexplained."""
    name = None if options.project == PROJECT else f"{interpreter.series}-other"
    python = interpreters.ensure(interpreter, name=name, project=options.project)
    bench = Bench(interpreter, python, preload, sources, options.gc)
    names = options.only or modules.SUBSETS[options.subset].split()
    present, absent = modules.resolve(names, bench.available)
    if options.only and absent:
        raise SystemExit(f"CPython {interpreter.version} has no {', '.join(absent)}")
    printing = threading.Lock()

    def run(module: str) -> Result:
        result = (bench.kept(module) if options.resume else None) or bench.run(module)
        with printing:
            print(describe(interpreter, result, known), flush=True)
        return result

    with ThreadPoolExecutor(max(1, options.jobs)) as pool:
        results = list(pool.map(run, present))
    stood_in = sorted(bench.stand_ins & set(present))
    chapter = document.Chapter(interpreter.version, [asdict(result) for result in results], absent, stood_in)
    print(document.summary(chapter, known), flush=True)
    is_clean = all(is_explained(interpreter, result, known) for result in results)
    if options.subset == "full" and not options.only:
        chapter.black = run_black(interpreter, options, sources)
        is_clean &= (
            chapter.black["same"] and chapter.black["on_heap"] > 0 and not chapter.black["differing_collections"]
        )
        print(document.black_line(chapter), flush=True)
    return chapter, is_clean


def run_black(interpreter: Interpreter, options: argparse.Namespace, sources: str) -> dict:
    """black over the interpreter's whole standard library, on both sides."""
    sys.path.append(str(HERE.parent / "packages"))
    import black_stdlib

    kept = RESULTS / interpreter.series / "black.json"
    if options.resume and kept.exists() and (found := json.loads(kept.read_text()))["sources"] == sources:
        return found
    python = interpreters.ensure(
        interpreter,
        name=f"packages-{interpreter.series}",
        project=options.project,
        requirements=black_stdlib.REQUIREMENTS,
    )
    files = black_stdlib.files(black_stdlib.library_of(python), tests=False)
    print(f"{interpreter.version}: black over {len(files)} files of the standard library: minutes", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        compared = black_stdlib.compare(python, files, options.jobs, Path(folder), gc_setting(options.gc))
        found = asdict(compared) | {"sources": sources}
    kept.write_text(json.dumps(found, indent=1))
    return found


def main() -> int:
    options = arguments()
    # A job in the background ignores these, and so would the tests, some of which wait for an interrupt to have effect.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    known = verdicts.read_known(HERE / "known-differences.tsv")
    preload = starts.build(RESULTS)
    sources = " ".join([interpreters.fingerprint(options.project), *gc_setting(options.gc)])
    report: list[document.Chapter] = []
    all_explained = True

    for interpreter in chosen(options.python):
        chapter, is_clean = run_interpreter(interpreter, options, known, preload, sources)
        report.append(chapter)
        all_explained &= is_clean

    if options.write_docs:
        path = PROJECT / "docs" / "cpython-tests.md"
        command = ["python", "tests/cpython/run.py", *sys.argv[1:]]
        path.write_text(document.page(report, known, command, interpreters.revision(options.project)))
        print(f"wrote {path.relative_to(PROJECT)}")
    return 0 if all_explained else 1


if __name__ == "__main__":
    sys.exit(main())
