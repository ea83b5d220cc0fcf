"""When it runs

Claim: The collector runs periodically, in the background.
True: In CPython and PyPy nothing runs in the background. Allocation sets a collection off, and the thread that allocated
    waits for it.
Expected:
    CPython 2.7, 3.6+, PyPy, Rust: false
    MicroPython: not run, as it has no weak references to watch objects with
    Jython: not run, as the Java virtual machine decides when
"""

import gc
import json
import threading
import time
import weakref


class Node(object):
    pass


threads = []
node = Node()
node.itself = node
gc.collect()
reference = weakref.ref(node, lambda _: threads.append(threading.current_thread()))
del node

time.sleep(0.2)
while_waiting = len(threads)
kept = []
while not threads and len(kept) < 3000000:
    kept.append([])

facts = {
    "while_the_program_waited": while_waiting > 0,
    "while_it_allocated": len(threads) > while_waiting,
    "in_the_thread_that_allocated": threads == [threading.current_thread()],
}
background = while_waiting > 0 or threads != [threading.current_thread()]
print(json.dumps(dict(facts, verdict="true" if background else "false")))
