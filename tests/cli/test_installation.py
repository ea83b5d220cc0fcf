"""heapkeeper.pth, and what `run` says where it would not be read."""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import heapkeeper
import pytest

SITE = Path(heapkeeper.__file__).resolve().parents[1]


def test_the_pth_file_is_one_cheap_line():
    lines = (SITE / "heapkeeper.pth").read_text().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("import os;")


def test_pip_knows_every_file():
    from importlib.metadata import files

    recorded = {str(path) for path in files("heapkeeper")}
    assert {"heapkeeper.pth", "_heapkeeper_boot.py"} <= recorded
    assert {"heapkeeper/py.typed", "heapkeeper/__init__.pyi", "heapkeeper/_native.pyi", "heapkeeper/gc.pyi"} <= recorded


def test_stubs_name_what_there_is():
    import ast

    stub = ast.parse((SITE / "heapkeeper" / "__init__.pyi").read_text())
    named = {node.name for node in stub.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))} | {"__version__"}
    # `gc` is kept out of __all__, as it would hide the standard module.
    named |= {
        alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names if alias.asname
    }
    assert named - {"gc"} == set(heapkeeper.__all__)
    from heapkeeper import _native, leak, memory_profiler, tracker

    for module in (_native, heapkeeper.gc, leak, memory_profiler, tracker):
        stub = ast.parse(Path(module.__file__).with_name(_stub_name(module)).read_text())
        for node in stub.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                assert callable(getattr(module, node.name))


def _stub_name(module):
    return "__init__.pyi" if hasattr(module, "__path__") else f"{module.__name__.rpartition('.')[2]}.pyi"


@pytest.fixture
def loose_copy(tmp_path):
    """The package in a folder that only PYTHONPATH names, as `pip install --target` leaves it."""
    folder = tmp_path / "loose"
    shutil.copytree(SITE / "heapkeeper", folder / "heapkeeper")
    return folder


def test_folder_that_site_does_not_read(driver, loose_copy):
    target = ["-m", "heapkeeper", "run", "-c", "print('must not run')"]
    env = {"PYTHONPATH": str(loose_copy)}
    outcome = driver.python(*target, env=env)
    assert (outcome.status, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1)
    assert "heapkeeper.pth" in outcome.stderr and f"{sys.executable} -m pip install heapkeeper" in outcome.stderr
    shutil.copy(SITE / "heapkeeper.pth", loose_copy)
    outcome = driver.python(*target, env=env)
    assert (outcome.status, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1)
    assert f"reads no .pth files in {loose_copy}" in outcome.stderr


def test_without_site(driver):
    outcome = driver.python(
        "-S", "-m", "heapkeeper", "run", "-c", "print('must not run')", env={"PYTHONPATH": str(SITE)}
    )
    assert (outcome.status, outcome.stdout, outcome.stderr.count("\n")) == (1, "", 1)
    assert "run without -S" in outcome.stderr


def test_two_pth_files_install_once(driver, tmp_path):
    # A virtual environment that also sees the system's packages may meet two.
    code = f"import site; site.addsitedir({str(tmp_path)!r}); print('once')"
    shutil.copy(SITE / "heapkeeper.pth", tmp_path)
    outcome = driver.python("-c", code, env={"HEAPKEEPER": "report,json,log=processes"})
    assert (outcome.stdout, outcome.stderr.count("\n")) == ("once\n", 1)
    assert len((driver.folder / "processes").read_text().splitlines()) == 1


def test_the_package_is_left_to_whoever_wants_it(driver):
    code = """
import sys
print("heapkeeper" in sys.modules, "heapkeeper._native" in sys.modules)
import heapkeeper
from heapkeeper import _native
import heapkeeper._native as again
print(again is _native, _native.__spec__.has_location, heapkeeper.status()["allocator"]["name"])
print(heapkeeper.status()["collector"]["mode"], heapkeeper.status()["profile"]["sample_bytes"])
"""
    outcome = driver.python("-c", code, env={"HEAPKEEPER": "1"})
    assert outcome.stdout == "False True\nTrue True heapkeeper\nheapkeeper 524288\n", outcome.stderr
    # Who says where packages are may mean another one.
    outcome = driver.python("-c", code, env={"HEAPKEEPER": "1", "PYTHONPATH": str(driver.folder)})
    assert outcome.stdout.startswith("False True\n"), outcome.stderr
    (driver.folder / "heapkeeper").symlink_to(SITE / "heapkeeper")
    outcome = driver.python("-c", code, env={"HEAPKEEPER": "1", "PYTHONPATH": str(driver.folder)})
    assert outcome.stdout == "True True\nTrue True heapkeeper\nheapkeeper 524288\n", outcome.stderr


def test_a_starting_process_loads_no_library_but_ours(driver):
    code = "print(*sorted({line.split('/')[-1].strip() for line in open('/proc/self/maps') if '.so' in line}))"
    plain = driver.python("-c", code).stdout.split()
    ours = driver.python("-c", code, env={"HEAPKEEPER": "1"}).stdout.split()
    assert [name.partition(".")[0] for name in ours if name not in plain] == ["_native"]


def test_both_ways_to_start_have_the_same_defaults():
    import _heapkeeper_boot
    from heapkeeper import _settings

    assert _heapkeeper_boot.DEFAULT_SAMPLE_BYTES == _settings.DEFAULT_SAMPLE_BYTES


@pytest.mark.parametrize("settings", ["1", "report"])
def test_native_module_that_cannot_be_loaded(driver, loose_copy, tmp_path, settings):
    # Another version's module, say: the program must run, and one line must say on what.
    for file in (loose_copy / "heapkeeper").glob("_native*"):
        file.unlink()
    (loose_copy / "heapkeeper" / "_native.py").write_text("raise ImportError('made for\\nanother Python')")
    code = "import sys; print('ran'); sys.exit(5)"
    outcome = driver.python("-c", code, env={"PYTHONPATH": str(loose_copy), "HEAPKEEPER": settings})
    assert (outcome.status, outcome.stdout) == (5, "ran\n")
    assert outcome.stderr == "heapkeeper: CPython's allocator stays: made for another Python\n"


def test_scripts_folder_is_this_environments():
    # Everything here drives this command: it must be the one installed beside the package.
    command = Path(sysconfig.get_path("scripts")) / "heapkeeper"
    shown = subprocess.run([command, "--version"], capture_output=True, text=True, check=True).stdout
    assert shown.startswith(f"heapkeeper {heapkeeper.__version__} ")
