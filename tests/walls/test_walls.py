"""The walls between the crates: who may depend on whom, and who may know of what.

Cargo keeps a dependency out only as long as nobody writes it down; here each one that is allowed is written down, with
the names that may not appear in a crate's code. Comments may speak of anything.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CRATES = PROJECT / "crates"

# Of our crates, which a crate may use outside its tests.
OURS = {
    "heapkeeper-heap": set(),
    "heapkeeper-gc": {"heapkeeper-heap"},
    "heapkeeper-derive": set(),
    "heapkeeper": {"heapkeeper-heap", "heapkeeper-gc", "heapkeeper-derive"},
    "heapkeeper-claims": {"heapkeeper"},
    "heapkeeper-record": set(),
    "heapkeeper-profile": set(),
    "heapkeeper-analysis": {"heapkeeper-record"},
    "heapkeeper-python": {
        "heapkeeper-heap",
        "heapkeeper-gc",
        "heapkeeper-record",
        "heapkeeper-profile",
        "heapkeeper-analysis",
    },
}
PYTHON_FACE = "heapkeeper-python"

# Comments go, strings stay: an interpreter's symbol looked up by name is known of as well.
TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)
      | (?P<string>b?r(?P<fence>\#*)".*?"(?P=fence)|b?"(?:\\.|[^"\\])*"|b?'(?:\\.[^']*|[^'\\])')""",
    re.VERBOSE | re.DOTALL,
)
PYTHON_NAME = re.compile(r"\b_?Py(?:_|[A-Z])\w*|\bpyo3\w*")
STD = re.compile(r"\bstd\s*::|\bextern\s+crate\s+(?:std|alloc)\b|\balloc\s*::\s*(?:vec|boxed|string|collections)\b")
# Words of the tiers above the heap. It offers observers and side tables; others fill them.
ABOVE_THE_HEAP = {
    "python",
    "object",
    "refcount",
    "collector",
    "gc",
    "sample",
    "sampler",
    "sampling",
    "site",
    "profiler",
    "frame",
}
TEST_ATTRIBUTE = "#[cfg(test)]"


def code(text):
    """Rust source without its comments."""
    return TOKEN.sub(lambda token: " " if token["comment"] else token[0], text)


def without_tests(text):
    """Rust code without the items that only tests compile, wherever they stand."""
    # The same length, but with no bracket inside a string.
    brackets = TOKEN.sub(lambda token: "_" * len(token[0]), text)
    kept = []
    start = 0
    while (found := brackets.find(TEST_ATTRIBUTE, start)) >= 0:
        kept.append(text[start:found])
        depth = 0
        for position in range(found + len(TEST_ATTRIBUTE), len(brackets)):
            depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(brackets[position], 0)
            # An item ends with its body or its semicolon; further attributes end with neither.
            if depth == 0 and brackets[position] in ";}":
                break
        start = position + 1
    return "".join(kept) + text[start:]


def words(text):
    """The words that identifiers consist of, in singular: `live_objects` and `LiveObjects` hold "object"."""
    names = re.findall(r"[A-Za-z_]\w*", text)
    parts = (part for name in names for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name))
    return {part.lower().removesuffix("s") for part in parts}


def sources(crate, *, tests=False):
    """Path and code of a crate's source files; without its test modules unless asked for."""
    for path in sorted((crate / "src").rglob("*.rs")):
        if tests or not {"tests.rs", "tests"} & set(path.relative_to(crate).parts):
            text = code(path.read_text())
            yield path.relative_to(PROJECT), text if tests else without_tests(text)


@pytest.fixture(scope="module")
def packages():
    """Cargo's description of our crates, by name."""
    command = ["cargo", "metadata", "--offline", "--no-deps", "--format-version", "1"]
    shown = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return {package["name"]: package for package in json.loads(shown.stdout)["packages"]}


def dependencies(package, *kinds):
    """Names of a crate's dependencies; the kinds are None (of the crate itself), "dev" and "build"."""
    return {dependency["name"] for dependency in package["dependencies"] if dependency["kind"] in kinds}


def test_every_crate_has_its_place(packages):
    assert set(packages) == set(OURS), "a new crate needs a row in OURS"
    manifests = {Path(package["manifest_path"]) for package in packages.values()}
    expected = {*CRATES.glob("*/Cargo.toml"), PROJECT / "claims" / "Cargo.toml"}
    assert manifests == expected, "a folder in crates/ is no member of the workspace"


@pytest.mark.parametrize("name", OURS)
def test_crates_depend_downwards_only(packages, name):
    assert dependencies(packages[name], None, "build") & set(OURS) <= OURS[name]


def test_the_heap_needs_the_operating_system_alone(packages):
    assert dependencies(packages["heapkeeper-heap"], None, "build") <= {"libc"}


def test_the_collector_needs_the_heap_alone(packages):
    assert dependencies(packages["heapkeeper-gc"], None, "build") == {"heapkeeper-heap"}


@pytest.mark.parametrize("name", sorted(set(OURS) - {PYTHON_FACE}))
def test_only_the_python_face_links_python(packages, name):
    used = dependencies(packages[name], None, "dev", "build")
    assert not {each for each in used if each.startswith(("pyo3", "python", "cpython"))}


@pytest.mark.parametrize(
    "folder", sorted(path.name for path in CRATES.iterdir() if path.is_dir() and path.name != "python")
)
def test_only_the_python_face_names_python(folder):
    found = {str(path): PYTHON_NAME.findall(text) for path, text in sources(CRATES / folder, tests=True)}
    assert found, "no source file was read"
    assert not {path: names for path, names in found.items() if names}


def test_the_python_face_does_name_python():
    # The search itself works: on the one crate where it must find something.
    assert any(PYTHON_NAME.search(text) for _, text in sources(CRATES / "python"))


@pytest.mark.parametrize("folder", ["heap", "gc"])
def test_the_core_is_no_std_and_without_alloc(folder):
    root = code((CRATES / folder / "src" / "lib.rs").read_text())
    assert re.search(r"#!\[(?:no_std|cfg_attr\(not\(test\),\s*no_std\))\]", root)
    assert not {str(path): STD.findall(text) for path, text in sources(CRATES / folder) if STD.search(text)}


@pytest.mark.parametrize("name", ["count.rs", "mark.rs", "search.rs"])
def test_the_passes_have_no_way_to_change_objects(name):
    # They see the object world through a shared reference, so that other threads and a forked child may run them.
    text = without_tests(code((CRATES / "gc" / "src" / name).read_text()))
    assert "graph: &G" in text
    assert not re.findall(r"graph: &mut|model: &mut|\b(?:alloc|free|lock|acquire|incref|decref)\(|collector_mut", text)


def test_the_heap_knows_nothing_of_the_tiers_above():
    found = {str(path): words(text) & ABOVE_THE_HEAP for path, text in sources(CRATES / "heap")}
    assert not {path: names for path, names in found.items() if names}


def test_the_search_sees_through_comments_and_strings():
    text = """
    //! PyObject in a doc comment
    let a = "no // comment, but PyMem_Malloc"; /* PyList */ let quote = '"'; // PyDict
    let b = r#"raw "quoted" // PyRaw_String"#; let lifetime: &'static str = "x";
    fn live_objects(CallSites: PySet) { std :: mem::drop(pyo3_ffi::x) }
    """
    assert PYTHON_NAME.findall(code(text)) == ["PyMem_Malloc", "PyRaw_String", "PySet", "pyo3_ffi"]
    assert words("live_objects CallSites GCState") >= {"object", "site", "gc", "live"}
    assert STD.search(code(text))
    assert not PYTHON_NAME.search("CPython Python HashMap::Py pyramid")


def test_the_search_leaves_out_what_only_tests_compile():
    text = """
    fn a() {}
    #[cfg(test)]
    #[allow(dead_code)]
    pub(crate) mod refusal { const X: [u8; 2] = [b'{', 1]; fn b() { "}" } }
    fn c() -> [u8; 3] { std::x }
    #[cfg(test)] extern crate std;
    #[cfg(test)] fn d() -> [u8; 3] { [0; 3] }
    fn e() {}
    """
    assert re.findall(r"fn (\w)", without_tests(text)) == ["a", "c", "e"]
    assert len(STD.findall(without_tests(text))) == 1
