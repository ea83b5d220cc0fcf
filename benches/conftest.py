"""What the tests of the benchmarks share: the facts that a record keeps beside its figures."""

import pytest


@pytest.fixture
def provenance():
    """When, how and on which machine something was measured: on one that never was."""

    def of(command, versions, duration_s=30.0):
        return {
            "date": "2026-01-02 03:04 UTC",
            "command": command,
            "commit": "0123456789",
            "heapkeeper": "0.1.0",
            "versions": versions,
            "disturbance": {"others": 0.01, "stolen": 0.0},
            "duration_s": duration_s,
            "machine": {
                "cpu": "A Processor",
                "cores": 2,
                "memory_gib": 16.0,
                "virtual": False,
                "system": "A System",
                "kernel": "Linux",
                "huge_pages": "madvise",
                "glibc": "2.36",
            },
        }

    return of
