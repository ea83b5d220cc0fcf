"""`pytest --heapkeeper`: figures of tests, limits of memory and of leaks."""

import re
import textwrap

import pytest


@pytest.fixture
def suite(driver):
    """Writes a test file and runs pytest on it; returns how it ended."""

    def run(tests, *arguments, plugins="no:asyncio", **options):
        driver.write("test_it.py", "import pytest\n" + textwrap.dedent(tests))
        command = ["-m", "pytest", "-p", "no:cacheprovider", "-p", plugins, "--strict-markers", *arguments]
        return driver.python(*command, **options)

    return run


def verdicts(outcome):
    """Such as {"passed": 2}, from the last line."""
    assert outcome.stderr == ""
    last = outcome.stdout.splitlines()[-1]
    return {
        word: int(count)
        for count, word in re.findall(r"(\d+) (passed|failed|error|errors|skipped|xfailed|warnings?)", last)
    }


LARGE = """
def test_large():
    block = bytes(20_000_000)
    assert len(block) == 20_000_000

def test_small():
    blocks = [bytes(1000) for _ in range(10)]
    assert blocks
"""


def test_nothing_happens_unless_asked(suite):
    outcome = suite(
        """
        import sys
        import heapkeeper

        @pytest.mark.limit_memory("1 KB")
        @pytest.mark.limit_leaks("1 B")
        def test_large():
            block = bytes(20_000_000)

        def test_what_is_imported():
            assert heapkeeper.status()["allocator"]["name"] == "cpython"
            ours = {name for name in sys.modules if name.startswith("heapkeeper")}
            read = {"heapkeeper", "heapkeeper._api", "heapkeeper._interpreter", "heapkeeper._native"}
            assert ours <= read | {"heapkeeper.pytest_plugin"}
        """
    )
    assert verdicts(outcome) == {"passed": 2}
    assert "memory" not in outcome.stdout


def test_table(suite):
    outcome = suite(LARGE, "--heapkeeper")
    assert verdicts(outcome) == {"passed": 2}
    rows = outcome.stdout[outcome.stdout.index("memory: 2 tests") :].splitlines()
    rows = [row for row in rows if row]
    assert rows[1].split() == ["peak", "allocated", "allocations", "time", "test"]
    large = next(place for place, row in enumerate(rows) if "test_large" in row)
    small = next(place for place, row in enumerate(rows) if "test_small" in row)
    assert large < small
    assert rows[large].startswith("  19.1 MiB    19.1 MiB  ")
    assert rows[large + 1].startswith("              19.1 MiB  ") and rows[large + 1].endswith(
        "test_it.py:4 in test_large"
    )


def test_ini(suite, driver):
    driver.write("pytest.ini", "[pytest]\nheapkeeper = true\n")
    assert "memory: 2 tests" in suite(LARGE).stdout


def test_top(suite):
    tests = "".join(f"def test_{number}():\n    block = bytes({number}_000_000)\n\n" for number in range(1, 6))
    outcome = suite(tests, "--heapkeeper", "--heapkeeper-top", "2")
    assert "memory: the largest of 5 tests" in outcome.stdout
    assert re.findall(r"::test_(\d)", outcome.stdout) == ["5", "4"]
    outcome = suite(tests, "--heapkeeper", "--heapkeeper-top", "0")
    assert re.findall(r"::test_(\d)", outcome.stdout) == ["5", "4", "3", "2", "1"]


def test_limit_memory(suite):
    outcome = suite(
        """
        def load():
            return bytes(3_000_000)

        @pytest.mark.limit_memory("2 MB")
        def test_too_large():
            load()

        @pytest.mark.limit_memory("4MB")
        def test_fits():
            load()

        @pytest.mark.limit_memory(4_000_000)
        def test_one_after_another_fits():
            for _ in range(5):
                load()

        @pytest.mark.limit_memory("1 MB")
        def test_fails_by_itself():
            block = load()
            assert not block, "the test's own failure"

        @pytest.mark.limit_memory("1 MB")
        @pytest.mark.xfail
        def test_may_fail():
            load()
        """,
        "--heapkeeper",
    )
    assert verdicts(outcome) == {"failed": 2, "passed": 2, "xfailed": 1}
    assert "2.9 MiB were live at the peak, more than the limit of 2.0 MiB:" in outcome.stdout
    assert re.search(r"2.9 MiB in 1 block from .*test_it.py:4 in load", outcome.stdout)
    assert "the test's own failure" in outcome.stdout
    # What is printed is ours, and no traceback of the plugin's.
    assert "_pytest.py" not in outcome.stdout


@pytest.mark.parametrize(
    ("marker", "says"),
    [
        ('limit_memory("many")', "limit_memory: 'many' is not a size"),
        ("limit_memory()", "limit_memory: missing 1 required positional argument: 'size'"),
        ('limit_leaks("1 KB", calls=3)', "limit_leaks: calls=3 are too few to tell; 10 at least"),
        ('limit_leaks("1 KB", often=True)', "limit_leaks: got an unexpected keyword argument 'often'"),
    ],
)
def test_a_wrong_marker_fails_its_test(suite, marker, says):
    outcome = suite(f"@pytest.mark.{marker}\ndef test_it():\n    raise SystemExit('must not run')\n", "--heapkeeper")
    assert verdicts(outcome) == {"failed": 1}
    assert says in outcome.stdout


def test_limit_leaks(suite):
    outcome = suite(
        """
        import functools, logging, warnings

        kept = []

        @pytest.mark.limit_leaks("1 KB")
        def test_leaks():
            kept.append(bytes(2000))

        @pytest.mark.limit_leaks("3 KB")
        def test_leaks_less_than_its_limit():
            kept.append(bytes(2000))

        @functools.cache
        def table():
            return [bytes(100) for _ in range(1000)]

        @pytest.mark.limit_leaks(0, calls=12, warmups=1)
        def test_fills_a_cache():
            assert table()

        @pytest.mark.limit_leaks(0)
        def test_talks(caplog, capsys):
            logging.getLogger("shop").warning("a line of some length %s", "x" * 100)
            warnings.warn("a warning " + "x" * 100)
            print("output " * 20)
        """,
        "--heapkeeper",
        "-k",
        "not less",
    )
    failed = re.findall(r"^FAILED \S+::(\S+)", outcome.stdout, re.MULTILINE)
    assert failed == ["test_leaks"]
    assert re.search(r"Memory grows by 2\.0 KiB a call \(±.* 95 %\), more than the limit of 1\.0 KiB:", outcome.stdout)
    assert re.search(
        r"^2\.0 KiB a call from test_it.py:\d+ in test_leaks \(±.*\), 1.0 blocks a call$", outcome.stdout, re.MULTILINE
    )
    assert "called from" not in outcome.stdout
    assert verdicts(outcome)["failed"] == 1 and verdicts(outcome)["passed"] == 2


def test_limit_leaks_above_what_leaks(suite):
    outcome = suite(
        """
        kept = []

        @pytest.mark.limit_leaks("3 KB")
        def test_leaks_less_than_its_limit():
            kept.append(bytes(2000))

        def test_how_often_it_was_called():
            assert len(kept) == 1 + 3 + 20
        """,
        "--heapkeeper",
    )
    assert verdicts(outcome) == {"passed": 2}


def test_fixtures_and_parameters(suite):
    outcome = suite(
        """
        kept = []

        @pytest.fixture
        def large():
            return bytes(20_000_000)

        @pytest.mark.limit_memory("1 MB")
        def test_fixtures_do_not_count(large, tmp_path):
            assert len(large) == 20_000_000 and tmp_path.is_dir()

        @pytest.mark.parametrize("size", [1000, 2_000_000])
        @pytest.mark.limit_memory("1 MB")
        def test_sizes(size):
            assert bytes(size)

        @pytest.mark.limit_leaks("1 KB")
        @pytest.mark.parametrize("leaks", [True, False])
        def test_leaks(leaks):
            if leaks:
                kept.append(bytes(3000))
        """,
        "--heapkeeper",
        "-rf",
    )
    assert verdicts(outcome) == {"failed": 2, "passed": 3}
    failed = re.findall(r"^FAILED \S+::(\S+)", outcome.stdout, re.MULTILINE)
    assert failed == ["test_sizes[2000000]", "test_leaks[True]"]


def test_classes_and_unittest(suite):
    outcome = suite(
        """
        import unittest

        class TestShop:
            @pytest.mark.limit_memory("1 MB")
            def test_method(self):
                assert bytes(2_000_000)

        @pytest.mark.limit_memory("1 MB")
        class TestOld(unittest.TestCase):
            def test_method(self):
                self.assertTrue(bytes(2_000_000))

            def test_small(self):
                pass

            @pytest.mark.limit_leaks("1 KB")
            def test_leaks(self):
                kept.append(bytes(3000))

        kept = []
        """,
        "--heapkeeper",
    )
    assert verdicts(outcome) == {"failed": 3, "passed": 1}
    assert "Memory grows by 3.0 KiB a call" in outcome.stdout


def test_doctests(suite, driver):
    driver.write("shop.py", 'def load():\n    """\n    >>> len(bytes(20_000_000))\n    20000000\n    """\n')
    outcome = suite("", "--heapkeeper", "--doctest-modules", "shop.py")
    assert verdicts(outcome) == {"passed": 1}
    assert re.search(r" 19\.1 MiB .* shop\.py::shop\.load", outcome.stdout)


def test_asyncio(suite):
    outcome = suite(
        """
        import asyncio

        kept = []

        @pytest.mark.asyncio
        @pytest.mark.limit_memory("1 MB")
        async def test_large():
            await asyncio.sleep(0)
            assert bytes(2_000_000)

        @pytest.mark.asyncio
        @pytest.mark.limit_leaks("1 KB")
        async def test_leaks():
            await asyncio.sleep(0)
            kept.append(bytes(3000))

        @pytest.mark.asyncio
        @pytest.mark.limit_leaks("1 KB")  # CPython 3.12.1 itself leaks some 60 bytes at each asyncio.run().
        async def test_is_clean():
            await asyncio.sleep(0)
        """,
        "--heapkeeper",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        plugins="no:nose",
    )
    assert verdicts(outcome) == {"failed": 2, "passed": 1}
    # Where CI is set, pytest's summary holds whole messages: what comes before it says each once.
    failures = outcome.stdout[: outcome.stdout.index("short test summary info")]
    assert len(re.findall(r"3\.0 KiB a call from .* in test_leaks", failures)) == 1


def test_xdist(suite):
    tests = LARGE + "\n@pytest.mark.limit_memory('1 MB')\ndef test_too_large():\n    assert bytes(5_000_000)\n"
    outcome = suite(tests, "--heapkeeper", "-n", "2")
    assert verdicts(outcome) == {"failed": 1, "passed": 2}
    rows = outcome.stdout[outcome.stdout.index("memory: 3 tests") :]
    assert re.findall(r"::(test_\w+)", rows)[:3] == ["test_large", "test_too_large", "test_small"]


def test_junit_xml_is_pytests_own(suite, driver):
    suite(LARGE, "--heapkeeper", "--junit-xml", "it.xml")
    assert "heapkeeper" not in (driver.folder / "it.xml").read_text()


def test_on_our_heap_from_the_start(suite):
    outcome = suite(LARGE, "--heapkeeper", "-W", "error", env={"HEAPKEEPER": "1"})
    assert verdicts(outcome) == {"passed": 2}


def test_where_our_heap_cannot_be(suite, driver):
    """As on another build of Python: tests pass, and one line says why nothing was measured."""
    driver.write(
        "refusing.py", "import heapkeeper._settings\nheapkeeper._settings.install = lambda settings: 'it is Tuesday'\n"
    )
    outcome = suite(
        """
        @pytest.mark.limit_memory("1 KB")
        def test_large():
            assert bytes(5_000_000)
        """,
        "--heapkeeper",
        "-p",
        "refusing",
        env={"PYTHONPATH": "."},
    )
    assert verdicts(outcome) == {"passed": 1}
    assert "heapkeeper measured nothing: CPython's allocator stays: it is Tuesday" in outcome.stdout


def test_keyboard_interrupt_ends_the_session(suite):
    outcome = suite(
        """
        calls = []

        @pytest.mark.limit_leaks("1 KB")
        def test_interrupted():
            calls.append(1)
            if len(calls) > 5:
                raise KeyboardInterrupt

        def test_never_run():
            pass
        """,
        "--heapkeeper",
    )
    assert outcome.status == 2
    assert "KeyboardInterrupt" in outcome.stdout
