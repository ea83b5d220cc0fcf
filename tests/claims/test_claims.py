"""docs/claims.md: every claim has its program, the page says what the programs say, and the fast ones still measure it.

`make claims` runs all of them on every Python found; here a few run on the one Python that runs the tests.
"""

import dataclasses
import re
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from claims.runner import __main__ as command  # noqa: E402
from claims.runner import page, pythons, rows  # noqa: E402
from claims.runner.measure import judge  # noqa: E402

NUMBERS = list(range(1, 42))
# Of these each takes a fraction of a second. Two of them concern our heap.
FAST = (1, 2, 7, 8, 9, 10, 11, 14, 16, 17, 19, 25, 26, 28, 29)


@pytest.fixture(scope="module")
def every():
    return rows.read_all()


@pytest.fixture
def no_page(tmp_path, monkeypatch):
    """Where the command writes instead of the page in the checkout; nothing is there yet."""
    monkeypatch.setattr(command, "PAGE", tmp_path / "claims.md")
    return tmp_path / "claims.md"


def test_every_claim_has_one_program(every):
    assert [row.number for row in every] == NUMBERS


def test_a_row_has_a_program_in_rust_if_it_speaks_of_the_crate(every):
    assert [row.number for row in every if row.speaks_of("Rust")] == sorted(
        int(path.name[:2]) for path in rows.FOLDER.glob("[0-9][0-9]_*.rs")
    )
    for row in every:
        assert (PROJECT / row.program_for("Rust")).exists() == row.speaks_of("Rust")


def test_the_page_lists_exactly_the_programs(every):
    text = command.PAGE.read_text("utf-8")
    assert page.differences(text, every, {}) == []
    written = page.read_verdicts(text)
    assert {number for number, _ in written} == set(NUMBERS)
    assert len(written) == len(NUMBERS) * len(page.labels(text))


def test_the_page_speaks_of_every_row_in_every_text(every):
    text = command.PAGE.read_text("utf-8")
    for row in every:
        assert text.count(f"> {row.claim}\n") == 1
        assert text.count(f"`python {row.program}`") == 1


def test_fast_rows_measure_what_the_page_says(capsys):
    command.main(["--check", "--default-only", "--rows", ",".join(map(str, FAST))])
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines] == list(FAST)
    # Nothing passes because nothing ran.
    series = "{}.{}".format(*sys.version_info)
    assert all(re.search(rf": {re.escape(series)} (true|partly|false)\b", line) for line in lines), lines

    def measured_on(ours):
        return [int(line.split()[0]) for line in lines if re.search(rf", {ours} (true|partly|false)\b", line)]

    assert measured_on("our heap") == [1, 2, 14]
    assert measured_on("our crate") == [7, 8, 10, 11, 14, 16, 17, 28, 29]


def test_a_program_that_disagrees_with_its_text_fails_the_command(every, no_page, monkeypatch):
    refcount = every[NUMBERS.index(9)]
    wrong = [rows.Expectation("CPython", (), (), "absent")]
    monkeypatch.setattr(rows, "read_all", lambda: [dataclasses.replace(refcount, expectations=wrong)])
    with pytest.raises(SystemExit, match=r"09_getrefcount\.py on CPython .* says '(true|partly)', its text 'absent'"):
        command.main(["--default-only"])
    assert not no_page.exists()


def test_a_program_that_says_nothing_of_a_python_fails_the_command(every, no_page, monkeypatch):
    monkeypatch.setattr(rows, "read_all", lambda: [dataclasses.replace(every[0], expectations=[])])
    with pytest.raises(SystemExit, match="says nothing of CPython"):
        command.main(["--default-only"])


def test_the_page_is_written_and_says_which_columns_went(every, no_page, monkeypatch, capsys):
    monkeypatch.setattr(rows, "read_all", lambda: [every[NUMBERS.index(9)]])
    series = "{}.{}".format(*sys.version_info)
    monkeypatch.setattr(pythons, "find", lambda paths: [each for each in pythons.default() if each.label == series])
    no_page.write_text("| # | about | Elsewhere |\n|--:|---|:-:|\n| 9 | some | true |\n")
    command.main([])
    assert "not found here: Elsewhere" in capsys.readouterr().out
    text = no_page.read_text()
    assert page.labels(text) == {series}
    assert re.search(rf"^\| CPython {re.escape(series)} \| (true|partly) \| at module level: 2; ", text, re.MULTILINE)


def test_a_page_with_another_verdict_or_text_is_noticed(every):
    text = command.PAGE.read_text("utf-8")
    row = every[NUMBERS.index(8)]
    written = page.read_verdicts(text)
    label = next(label for number, label in written if number == 8)
    other = dataclasses.replace(judge(row, python(label), "false", 0, '{"verdict": "false"}', ""), verdict="absent")
    assert page.differences(text, every, {(8, label): other}) == [
        f"row 8, {label}: the page says {written[8, label]!r}, the program 'absent'"
    ]
    changed = [dataclasses.replace(each, true="Something else.") if each is row else each for each in every]
    assert page.differences(text, changed, {}) == ["row 8: the page's text is not the program's"]
    assert page.differences(text, every[:-1], {}) != []


@pytest.mark.parametrize(
    "status, output",
    [(1, '{"verdict": "true"}'), (0, ""), (0, "true"), (0, "[]"), (0, "{}"), (0, '{"verdict": "yes"}'), (None, "")],
)
def test_a_broken_program_is_a_problem(every, status, output):
    assert judge(every[0], python("3.12"), "true", status, output, "what went wrong").problem


def python(label):
    return pythons.Python("CPython", tuple(map(int, label.split("."))), f"CPython {label}", ["python"])


def test_versions_are_compared_as_far_as_they_are_given():
    expected = rows._expectations(Path("x.py"), "CPython 2.7, 3.6-3.11, 3.14.5+, PyPy: true")
    cpython = [each for each in expected if each.implementation == "CPython"]
    fits = {
        version: any(each.fits("CPython", version) for each in cpython)
        for version in [(2, 7, 18), (3, 5, 9), (3, 6, 0), (3, 11, 7), (3, 12, 0), (3, 14, 4), (3, 14, 5), (3, 15, 0)]
    }
    assert [version for version, fit in fits.items() if fit] == [
        (2, 7, 18),
        (3, 6, 0),
        (3, 11, 7),
        (3, 14, 5),
        (3, 15, 0),
    ]
    assert rows.Expectation("PyPy", (), (), "true").fits("PyPy", (8, 0, 1))


@pytest.mark.parametrize(
    "header, problem",
    [
        ("A title\n\nClaim: This.\n\nExpected:\n    CPython: true\n", "no True"),
        ("A title\n\nClaim: This.\nTrue: That.\nExpected:\n    CPython: maybe\n", "ends in none of"),
        ("A title\n\nClaim: This.\nTrue: That.\nExpected:\n    3.12: true\n", "is no implementation"),
        ("A title\n\nClaim: This.\nSource: A book.\n", "begins no field"),
    ],
)
def test_a_header_that_cannot_be_read_is_an_error(tmp_path, header, problem):
    program = tmp_path / "01_some.py"
    program.write_text(f'"""{header}"""\n')
    with pytest.raises(rows.HeaderError, match=problem):
        rows.read(program)


def test_two_expectations_for_one_python_are_an_error(every):
    twice = [rows.Expectation("CPython", (3,), (), "true"), rows.Expectation("CPython", (3, 12), (3, 12), "false")]
    with pytest.raises(rows.HeaderError, match="2 expectations fit"):
        dataclasses.replace(every[0], expectations=twice).expected("CPython", (3, 12, 1))
