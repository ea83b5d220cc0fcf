"""The harness itself: a verdict that changes must be seen, and no process may slip through the census."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import modules  # noqa: E402
import starts  # noqa: E402
import verdicts  # noqa: E402
from verdicts import PROCESS, Difference, Known, Outcome  # noqa: E402

TEST_MODULE = """
import os, unittest

class Cases(unittest.TestCase):
    def test_passes(self):
        pass
    def test_fails(self):
        self.assertEqual(1, 2)
    def test_raises(self):
        raise OSError("gone")
    def test_skips(self):
        self.skipTest("not here")
    @unittest.expectedFailure
    def test_expected(self):
        self.fail()
    def test_subtests(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertNotEqual(number, 1)
    def test_forks(self):
        if os.fork() == 0:
            try:
                self.fail("in the child only")
            finally:
                os._exit(0)
        os.wait()

class Broken(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        raise ValueError("no set-up")
    def test_never(self):
        pass

class Zz(unittest.TestCase):
    def test_crashes(self):
        if "CRASH" in os.environ:
            os.abort()
"""


def record(folder: Path, **environment: str) -> tuple[int, dict[str, str]]:
    """Runs TEST_MODULE under the recorder; the exit status and the verdicts, by the last part of their names."""
    (folder / "test_sample.py").write_text(TEST_MODULE)
    cases = folder / "cases"
    cases.unlink(missing_ok=True)
    command = [sys.executable, HERE / "recorder.py", cases, "-v", "--testdir", folder, "test_sample"]
    answer = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    found, _ = verdicts.read(cases)
    assert found, answer.stdout + answer.stderr
    return answer.returncode, {name.rsplit(".", 1)[-1]: verdict for name, verdict in found.items()}


def test_recorder_notes_each_kind_of_verdict(tmp_path):
    code, found = record(tmp_path)
    assert code == 2
    broken = [name for name in found if name.endswith("Broken)")]
    assert [found.pop(name) for name in broken] == ["error"]
    assert found == {
        "test_passes": "pass",
        "test_fails": "fail",
        "test_raises": "error",
        "test_skips": "skip",
        "test_expected": "expected",
        "test_subtests": "fail",
        "test_forks": "pass",
        "test_crashes": "pass",
    }


def test_recorder_keeps_what_ran_before_a_crash(tmp_path):
    code, found = record(tmp_path, CRASH="1")
    assert code < 0
    assert found["test_passes"] == "pass"
    assert found["test_crashes"] == "did not finish"


def test_compare_sees_every_change():
    plain = Outcome({PROCESS: "exit 0", "a": "pass", "b": "pass", "c": "skip", "d": "pass+pass"})
    ours = Outcome({PROCESS: "SIGSEGV", "a": "pass", "b": "fail", "d": "pass", "e": "pass"})
    found = {each.case: (each.plain[0], each.ours[0]) for each in verdicts.compare(plain, ours)}
    assert found == {
        PROCESS: ("exit 0", "SIGSEGV"),
        "b": ("pass", "fail"),
        "c": ("skip", verdicts.ABSENT),
        "d": ("pass+pass", "pass"),
        "e": (verdicts.ABSENT, "pass"),
    }
    assert verdicts.compare(plain, plain) == []


@pytest.mark.parametrize(
    ("plain", "ours", "settled"),
    [
        (["pass"] * 4, ["fail", "pass", "pass", "pass"], True),
        (["pass", "fail", "pass", "pass"], ["fail", "fail", "pass", "pass"], True),
        (["pass"] * 4, ["fail", "pass", "fail", "pass"], False),
        (["pass"] * 4, ["fail"] * 4, False),
        (["pass"], ["fail"], False),
    ],
)
def test_only_repetition_settles_a_difference(plain, ours, settled):
    assert Difference("case", plain, ours, "").is_settled is settled


def test_known_differences_name_version_and_case(tmp_path):
    table = tmp_path / "known.tsv"
    table.write_text("# comment\n3.12\tt.C.test_x\tits cause\n*\tt.C.test_y\tanother\n")
    first, second = verdicts.read_known(table)
    assert first == Known("3.12", "t.C.test_x", "its cause")
    assert first.explains("3.12.1", "t.C.test_x") and not first.explains("3.13.0", "t.C.test_x")
    assert second.explains("3.10.13", "t.C.test_y") and not second.explains("3.10.13", "t.C.test_x")
    table.write_text("3.12\tt.C.test_x\n")
    with pytest.raises(SystemExit, match=r"known\.tsv:1"):
        verdicts.read_known(table)


def test_a_process_fails_of_known_cases_only():
    known = [Known("*", "a", "its cause")]
    process = {"case": PROCESS, "ours": [verdicts.FAILURES] * 4}
    case_a, case_b = {"case": "a", "ours": ["fail"] * 4}, {"case": "b", "ours": ["fail"] * 4}
    assert verdicts.causes("3.12.1", [process, case_a], known) == ["The cases below failed.", "its cause"]
    assert verdicts.causes("3.12.1", [process, case_a, case_b], known) == [None, "its cause", None]
    assert verdicts.causes("3.12.1", [process], known) == [None]
    assert verdicts.causes("3.12.1", [{**process, "ours": ["SIGSEGV"] * 4}, case_a], known) == [None, "its cause"]


def test_options_are_taken_apart():
    assert starts.options(("python", "-IS", "-X", "dev", "-Wignore", "-c", "-S")) == ["-I", "-S", "-X", "-W", "-c"]
    assert starts.options(("python", "-u", "script.py", "-S")) == ["-u"]
    assert starts.options(("python", "--version")) == ["--version"]
    assert starts.options(("python",)) == []


def test_census_counts_processes_that_cannot_be_asked(tmp_path):
    """Isolated, without site, with a cleared environment, through env, forked, and two in one process id."""
    library = starts.build(tmp_path)
    program = """if True:
        import os, subprocess, sys
        python = sys.executable
        subprocess.run([python, "-I", "-c", "1"], check=True)
        subprocess.run([python, "-S", "-c", "2"], check=True)
        subprocess.run([python, "-c", "3"], env={}, check=True)
        subprocess.run(["env", "-i", python, "-c", "4"], check=True)
        os.waitpid(os.posix_spawn(python, [python, "-c", "5"], {}), 0)
        if os.fork() == 0:
            os._exit(0)
        os.wait()
        if os.fork() == 0:
            os.execv(python, [python, "-c", "6"])
        os.wait()
        try:
            os.execve("/no/such/python", ["python"], {})
        except OSError:
            pass
    """
    records, log = tmp_path / "starts", tmp_path / "log"
    environment = {**os.environ, "LD_PRELOAD": str(library), "STARTS_LOG": str(records), "HEAPKEEPER": f"log={log}"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)

    found, forked = starts.read_starts(records)
    assert len(found) == 7
    assert forked == 1
    assert [each.argv[-1] for each in found if not each.has_variable] == ["3", "4", "5"]

    log.write_text(
        "".join(f"{each.pid}\t3\theapkeeper\t-\n" for each in found if each.has_variable and "-S" not in each.argv)
    )
    census = starts.census(records, log, Path(sys.executable))
    assert (census.started, census.on_heap, census.forked) == (7, 3, 1)
    assert census.absent == {"started with an environment without HEAPKEEPER": 3, "-S: no site, no .pth files": 1}


def test_every_module_exists_in_some_version_and_subsets_are_part_of_the_whole():
    full = set(modules.SUBSETS["full"].split())
    assert set(modules.SUBSETS["quick"].split()) <= full
    assert set(modules.SUBSETS["thin"].split()) <= full
    present, absent = modules.resolve(["test_str|test_unicode", "test_nothing"], {"test_unicode", "test_list"})
    assert (present, absent) == (["test_unicode"], ["test_nothing"])
