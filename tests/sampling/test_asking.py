"""Asking leaves nothing behind: a service is asked all day."""


def test_status_keeps_nothing(driver):
    outcome = driver.python(
        "-c",
        """
import sys, threading, heapkeeper

def blocks_after(times):
    for _ in range(times):
        heapkeeper.status()
    return sys.getallocatedblocks()

settled = blocks_after(20)
print(blocks_after(200) - settled)
""",
        env={"HEAPKEEPER": "1"},
    )
    assert (outcome.status, outcome.stderr) == (0, "")
    assert int(outcome.stdout) < 50
