"""Which of CPython's test modules are run, under which name in which version, and how long each may take.

A name that changed between versions is written with bars, newest first (`test_str|test_unicode`): the first one that exists is run.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

# By what they try. Everything that allocates, frees, forks, embeds or looks at the allocator is here; pure library modules are not.
FAMILIES: dict[str, str] = {
    "built-in types": """
        test_builtin test_types test_list test_tuple test_dict test_dictviews test_set test_str|test_unicode test_bytes test_bool test_int
        test_long test_float test_complex test_range test_slice test_iter test_enumerate test_generators test_coroutines test_asyncgen
        test_genericalias test_class test_descr test_super test_property test_enum test_dataclasses test_collections test_deque
        test_defaultdict test_ordered_dict test_userdict test_userlist test_userstring test_memoryview test_buffer test_array test_struct
        test_hash test_index test_operator test_sort test_functools test_itertools test_heapq test_bisect test_fstring test_format
        test_typing""",
    "exceptions and code": """
        test_exceptions test_baseexception test_exception_group test_raise test_traceback test_contextlib test_copy test_copyreg test_code
        test_frame test_compile test_ast test_import test_sys_settrace test_sys_setprofile test_monitoring test_opcache test_call""",
    "memory": """
        test_gc test_weakref test_weakset test_finalization test_tracemalloc test_capi test_embed test_sys test_atexit test_faulthandler
        test_mmap test_resource test_cmd_line test_cmd_line_script test_site test_audit test_perf_profiler""",
    "threads": """
        test_thread test_threading test_threading_local test_threadedtempfile test_threadsignals test_queue
        test_context test_sched""",
    "processes": """
        test_fork1 test_subprocess test_os test_posix test_popen test_wait3 test_wait4 test_signal test_multiprocessing_fork
        test_multiprocessing_forkserver test_multiprocessing_spawn test_multiprocessing_main_handling _test_venv_multiprocessing
        test_concurrent_futures test_asyncio test_venv""",
    "interpreters": """
        test__interpreters|test__xxsubinterpreters test__interpchannels|test__xxinterpchannels test_interpreters""",
    "data": """
        test_json test_pickle test_pickletools test_io test_bufio test_memoryio test_fileio test_sqlite3|test_sqlite test_zlib test_bz2
        test_lzma test_re test_decimal test_fractions test_datetime test_ctypes test_xml_etree test_xml_etree_c test_csv test_hashlib
        test_binascii test_codecs test_ssl test_select test_selectors""",
}

# A few minutes on one interpreter: what would notice a broken allocator first.
QUICK = """
    test_builtin test_list test_dict test_set test_str|test_unicode test_bytes test_long test_float test_descr test_generators test_memoryview
    test_array test_struct test_exceptions test_gc test_weakref test_weakset test_finalization test_tracemalloc test_sys test_atexit
    test_thread test_threading_local test_fork1 test_json test_pickle test_zlib test_re test_ctypes test_sqlite3|test_sqlite
    test__interpreters|test__xxsubinterpreters test_popen"""

# Under a minute: for the interpreters beside the default one.
THIN = """
    test_list test_dict test_gc test_weakref test_finalization test_tracemalloc test_fork1 test_json test_thread
    test__interpreters|test__xxsubinterpreters"""

# What the collector of cycles shows itself in.
GC = """
    test_gc test_weakref test_weakset test_finalization test_generators test_coroutines test_asyncgen test_threading test_io test_asyncio"""

SUBSETS = {"full": " ".join(FAMILIES.values()), "quick": QUICK, "thin": THIN, "gc": GC}

# regrtest's `-u`: no network, no gigabytes, no sound. `walltime` is younger than 3.10.
RESOURCES = ("subprocess", "cpu", "decimal", "walltime")

# `make install` of 3.11 and 3.12 leaves these packages out and installs the module that holds all of their cases: what
# each would do with it is done in their place. Package to its files.
STAND_INS = {
    f"test_multiprocessing_{method}": {
        "__init__.py": "",
        **{
            f"test_{name}.py": (
                "from test._test_multiprocessing import install_tests_in_module_dict\n"
                f"install_tests_in_module_dict(globals(), {method!r}, {selection})\n"
            )
            for name, selection in {
                "processes": "only_type='processes'",
                "threads": "only_type='threads'",
                "manager": "only_type='manager'",
                "misc": "exclude_types=True",
            }.items()
        },
    }
    for method in ("fork", "forkserver", "spawn")
}
STAND_IN_NEEDS = "_test_multiprocessing"

# Seconds a single test case and a whole module may take on a busy machine; the modules below take long by nature.
CASE_TIMEOUT_S = 600
MODULE_TIMEOUT_S = 900
LONG_MODULE_TIMEOUT_S = 2400
LONG = ("multiprocessing", "concurrent_futures", "asyncio", "subprocess", "decimal", "socket", "io", "venv")


def installed(python: Path) -> set[str]:
    """The names of the test modules and packages that came with an interpreter."""
    code = "import os, test; print(os.path.dirname(test.__file__))"
    folder = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    return {name[:-3] if name.endswith(".py") else name for name in os.listdir(folder)}


def stand_ins(available: set[str], folder: Path) -> set[str]:
    """Writes into `folder` the stand-ins that a version needs; their names."""
    needed = set(STAND_INS) - available if STAND_IN_NEEDS in available else set()
    for package in needed:
        (folder / package).mkdir(parents=True, exist_ok=True)
        for name, text in STAND_INS[package].items():
            (folder / package / name).write_text(text)
    return needed


def parts(stand_in: str) -> list[str]:
    """The modules of a stand-in; regrtest would look for the package itself where CPython's tests are."""
    return [f"{stand_in}.{name.removesuffix('.py')}" for name in STAND_INS[stand_in] if name.startswith("test_")]


def resolve(names: list[str], available: set[str]) -> tuple[list[str], list[str]]:
    """The modules to run in this version, and the names for which it has none."""
    present: list[str] = []
    absent: list[str] = []
    for name in names:
        match = next((choice for choice in name.split("|") if choice in available), None)
        if match is None:
            absent.append(name)
        elif match not in present:
            present.append(match)
    return present, absent


def resources(version: str) -> str:
    """The value of regrtest's `-u` for a version."""
    return ",".join(name for name in RESOURCES if name != "walltime" or not version.startswith("3.10."))


def timeout_s(module: str) -> int:
    """Seconds a whole module may take."""
    return LONG_MODULE_TIMEOUT_S if any(word in module for word in LONG) else MODULE_TIMEOUT_S


def family(module: str) -> str:
    """The family a module belongs to; `other` for one named on the command line only."""
    for title, names in FAMILIES.items():
        if any(module in name.split("|") for name in names.split()):
            return title
    return "other"
