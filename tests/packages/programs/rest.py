"""What a program holds when it rests."""

import gc
import sys
import time

MOMENTS = 5


def blocks() -> int:
    """Blocks, the fewest of several moments: where another thread is in the middle of a collection, ours does nothing."""
    counts = []
    for moment in range(MOMENTS):
        if moment:
            time.sleep(0.02)
        gc.collect()
        counts.append(sys.getallocatedblocks())
    return min(counts)
