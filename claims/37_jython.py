"""Jython and IronPython

Claim: Jython and IronPython leave memory to the collector of the platform they run on.
True: Jython's gc.collect() asks the Java virtual machine, whose own count of collections rises with it. IronPython, on .NET, is
    not at hand.
Expected:
    Jython: true
    CPython 2.7, 3.6+, PyPy, MicroPython: not run, as the program looks into the Java virtual machine
"""

import gc
import json
import weakref

from java.lang.management import ManagementFactory


def collections():
    """How often the virtual machine's collectors have run."""
    return sum([each.getCollectionCount() for each in ManagementFactory.getGarbageCollectorMXBeans()])


class Node(object):
    pass


node = Node()
node.itself = node
reference = weakref.ref(node)
del node
before = collections()
gc.collect()

facts = {"collections_of_the_virtual_machine_rise": collections() > before, "cycle_freed": reference() is None}
print(json.dumps(dict(facts, verdict="true" if all(facts.values()) else "false")))
