"""`import heapkeeper` from inside a program."""

import json

import pytest


def inside(driver, code, **options):
    """The lines that a program prints which imports heapkeeper, on CPython's allocator at first."""
    outcome = driver.python("-c", f"import heapkeeper\n{code}", **options)
    assert (outcome.status, outcome.stderr) == (0, "")
    return outcome.stdout.splitlines()


def test_install(driver):
    code = """
before = heapkeeper.status()["allocator"]["name"]
print(before, heapkeeper.install(), heapkeeper.status()["allocator"]["name"])
print(heapkeeper.install(), heapkeeper.status()["allocator"]["name"])
"""
    assert inside(driver, code) == ["cpython True heapkeeper", "True heapkeeper"]


@pytest.mark.parametrize(
    "arguments",
    [
        "profile='exactly'",
        "sample_bytes='x'",
        "sample_bytes=0",
        "max_heap=-1",
        "max_heap='64X'",
        "seed=0",
        "max_heap=1.5",
        "gc='off'",
    ],
)
def test_install_with_a_bad_argument_changes_nothing(driver, arguments):
    code = f"""
try: heapkeeper.install({arguments})
except heapkeeper.SettingsError as error: print(isinstance(error, ValueError), "\\n" in str(error))
print(heapkeeper.status()["allocator"]["name"])
"""
    assert inside(driver, code) == ["True False", "cpython"]


def test_status_is_the_json_report(driver):
    outcome = driver.run("--json", "-c", "import heapkeeper, json; print(json.dumps(heapkeeper.status()))", "x")
    inside, at_exit = json.loads(outcome.stdout), json.loads(outcome.stderr)
    assert inside.keys() == at_exit.keys()
    for name in ("pid", "program", "version"):
        assert inside[name] == at_exit[name]
    assert inside["program"] == "-c"


def test_report_is_text(driver):
    code = "text = heapkeeper.report(80); print('-c' in text, '\\x1b' in text, max(map(len, text.splitlines())) <= 80)"
    assert inside(driver, code) == ["True False True"]
    assert inside(driver, code, env={"HEAPKEEPER": "1"}) == ["True False True"]


def test_where(driver):
    assert inside(driver, "print(type(heapkeeper.where([])).__name__)", env={"HEAPKEEPER": "1"}) == ["dict"]
    assert inside(driver, "print(type(heapkeeper.where([])).__name__)") == ["dict"]


def test_limit_needs_our_heap(driver):
    code = """
try: heapkeeper.limit("64M")
except heapkeeper.NotInstalledError as error: print(isinstance(error, RuntimeError), "install()" in str(error))
"""
    assert inside(driver, code) == ["True True"]


def test_limit_takes_sizes(driver):
    code = """
heapkeeper.limit("1G"); heapkeeper.limit(2**30); heapkeeper.limit(None)
for bad in ("banana", 0, -1, 4096):
    try: heapkeeper.limit(bad)
    except heapkeeper.SettingsError: print("refused")
"""
    assert inside(driver, code, env={"HEAPKEEPER": "1"}) == ["refused"] * 4


def test_trim_counts_bytes(driver):
    code = "print(heapkeeper.trim() >= 0)"
    assert inside(driver, code, env={"HEAPKEEPER": "1"}) == ["True"]
    assert inside(driver, code) == ["True"]


def test_unknown_names_are_attribute_errors(driver):
    assert inside(driver, "print(hasattr(heapkeeper, 'absent'), hasattr(heapkeeper, '__version__'))") == ["False True"]
