"""A limit on virtual memory (`ulimit -v`): a smaller reservation, or one line and CPython's allocator; the program runs in any case."""

import resource
import subprocess
import sys

import pytest

PROGRAM = """
import heapkeeper, sys
kept = {number: [str(number)] * 5 for number in range(100_000)}
assert kept[99_999] == ["99999"] * 5
buffer = bytearray()
for number in range(200):
    buffer += bytes(20_000)
assert len(buffer) == 4_000_000
status = heapkeeper.status()
print(status["allocator"]["name"], status["heap"]["reserved_bytes"])
"""

HOG = """
import heapkeeper
for turn in range(5):
    hoard = []
    try:
        while True:
            hoard.append([turn] * 1000)
    except MemoryError:
        hoard.clear()
print(heapkeeper.status()["allocator"]["name"])
"""


def under_limit(program: str, kibibytes: int) -> subprocess.CompletedProcess[str]:
    """Runs a program under `ulimit -v`."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (kibibytes * 1024, kibibytes * 1024))

    environment = {"HEAPKEEPER": "on", "PATH": "/usr/bin:/bin"}
    return subprocess.run(
        [sys.executable, "-c", program], preexec_fn=limit, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("kibibytes", [100_000, 150_000, 200_000, 400_000, 1_000_000, 4_000_000, 64_000_000])
def test_program_runs(kibibytes):
    answer = under_limit(PROGRAM, kibibytes)
    assert answer.returncode == 0, answer.stderr
    name, reserved_bytes = answer.stdout.split()
    if name == "heapkeeper":
        assert answer.stderr == ""
        assert 0 < int(reserved_bytes) < kibibytes * 1024
    else:
        assert answer.stderr.startswith("heapkeeper: CPython's allocator stays: ") and answer.stderr.count("\n") == 1
    assert name == "heapkeeper" or kibibytes < 400_000


@pytest.mark.parametrize("kibibytes", [200_000, 400_000, 1_000_000])
def test_hog_meets_memory_error(kibibytes):
    answer = under_limit(HOG, kibibytes)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("kibibytes", [400_000, 1_000_000])
def test_mapping_of_the_program_itself_has_room(kibibytes):
    """The reservation must not take everything: threads' stacks, mmap and C libraries need address space as well."""
    program = """
import mmap, threading
maps = [mmap.mmap(-1, 16 << 20) for _ in range(5)]
threads = [threading.Thread(target=lambda: [str(number) for number in range(10_000)]) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
import decimal, ssl, sqlite3, ctypes, lzma
print(len(maps))
"""
    answer = under_limit(program, kibibytes)
    assert (answer.returncode, answer.stdout) == (0, "5\n"), answer.stderr


def test_program_limits_its_own_address_space(run):
    """What people do to keep a job from taking the machine down: `resource.setrlimit(RLIMIT_AS, …)` in the program."""
    answer = run("""
        import resource, threading
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        threads = [threading.Thread(target=lambda: [str(number) for number in range(10_000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        import decimal, mmap, sqlite3
        mapped = mmap.mmap(-1, 16 << 20)
        try:
            bytearray(8 << 30)
        except MemoryError:
            print("limited")
    """)
    assert answer.stdout == "limited\n"
