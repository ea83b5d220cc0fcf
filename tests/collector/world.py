"""The world that a generated program lives in: its roots, its operations, and what its finalizers and callbacks do.

Every event goes to `kinds.LOG`: never an address, an id or a time. The order in which a collection finalizes and frees is that of CPython's list of
objects, which nobody promises and our collector changes. So a log is compared without the order of what happens inside one collection, and a program
is of one of two kinds: either what its finalizers do comes out the same in any order, or just one of them does anything, which may be all.
"""

import contextvars
import gc
import os
import sys
import threading
import types
import weakref

import kinds
from kinds import LOG, Plain, ProgramError, Tag, apart, link, unlink

SLOTS = 12
RING = 5

# Objects of the standard library that are there before any program, and that take attributes.
FOREIGN_ROOTS = (os.environ, os.path.join, os, os.PathLike, weakref.WeakSet, threading.Thread.run, contextvars)
ATTRIBUTE = "_of_a_generated_program"

# What the tests themselves keep is not the program's.
MAKERS = list(kinds.MAKERS.values())


class Reference(weakref.ref):
    """A weak reference that refers to something itself."""

    __slots__ = ("held",)


class Thread:
    """A thread that waits to be told what to do, so that its frame is alive; at any moment either it runs or the caller."""

    def __init__(self, *held):
        self.asked, self.answered = threading.Lock(), threading.Lock()
        self.asked.acquire()
        self.answered.acquire()
        self.order = None
        self.thread = threading.Thread(target=self.wait, args=held)
        self.thread.start()
        self.answered.acquire()

    def wait(self, *held):
        inner = [*held]
        while True:
            self.answered.release()
            self.asked.acquire()
            if self.order is None:
                break
            LOG.append(f"in a thread: {gc.collect(self.order)}")
        inner.clear()

    def collect(self, generation):
        self.order = generation
        self.asked.release()
        self.answered.acquire()

    def end(self):
        self.order = None
        self.asked.release()
        self.thread.join()


class World:
    """One program's run."""

    def __init__(self, pool, whole):
        self.pool = pool
        """Objects made long before, for `foreign` to take."""
        self.whole = whole
        """Whether what was there before the program is in the generations as well, and not frozen."""
        self.slots = [None] * SLOTS
        self.kept, self.made, self.references, self.deeds = {}, {}, [], {}
        self.callbacks, self.threads = [], []
        self.values, self.keys = weakref.WeakValueDictionary(), weakref.WeakKeyDictionary()
        self.members = weakref.WeakSet()
        self.stats = None
        self.older = {}
        """How many objects of each type were there before the program."""
        self.types = {}
        """The same of those in the generations, to leave out of what is written down."""
        self.is_bare = False
        """Whether no callback is there but the program's own ones."""
        self.doer = None
        """Where only one finalizer or callback does anything: its number, or 0 as long as nobody was chosen. Else None."""

    # The run.

    def play(self, operations):
        """Runs a program from an empty world to an empty world."""
        kinds.FINALIZERS["object"] = self.finalized
        sys.unraisablehook = self.unraisable
        gc.set_threshold(0)
        will_unfreeze = any(name == "unfreeze" for _, name, *_ in operations)
        if will_unfreeze:
            gc.unfreeze()
        gc.collect()
        if self.whole or will_unfreeze:
            self.older = self.census(None)
        if self.whole:
            self.types = self.older
        else:
            gc.freeze()
        gc.callbacks.append(self.phase)
        self.stats = gc.get_stats()
        gc.enable()
        gc.collect()
        gc.set_threshold(50, 3, 3)
        try:
            self.some(operations)
        finally:
            self.end()

    def some(self, operations):
        """Runs operations; those that call something take the next ones in there."""
        position = 0
        while position < len(operations):
            index, name, first, second, third = operations[position]
            position += 1
            LOG.append(f"{index} {name}")
            if name.startswith("call_") or name == "call":
                following = operations[position : position + 1 + third % 8]
                position += len(following)
                getattr(self, name)(first % SLOTS, following)
            else:
                self.one(name, index + 1, first, second, third)

    def one(self, name, *numbers):
        """Runs an operation. What the objects that it meets refuse to do is an event as well."""
        try:
            getattr(self, name)(*numbers)
        except Exception as error:
            LOG.append(f"refused: {type(error).__name__}")

    def end(self):
        LOG.append("end")
        gc.set_threshold(0)
        gc.set_debug(0)
        gc.enable()
        for thread in self.threads:
            thread.end()
        thread = None
        for root in FOREIGN_ROOTS:
            if hasattr(root, ATTRIBUTE):
                delattr(root, ATTRIBUTE)
        sys.modules.pop(ATTRIBUTE, None)
        kinds.VARIABLE.set(None)
        self.slots[:] = [None] * SLOTS
        self.threads.clear()
        for _ in range(3):
            LOG.append(f"last collection: {gc.collect()}")
            self.kept.clear()
            self.made.clear()
            self.deeds.clear()
        self.snapshot(0, 0, 0, 0)
        gc.callbacks.clear()
        self.callbacks.clear()
        for left in (self.references, self.values, self.keys, self.members):
            left.clear()
        LOG.append(f"after it: {gc.collect()} {len(gc.callbacks)} {len(gc.garbage)}")
        sys.unraisablehook = sys.__unraisablehook__

    def phase(self, phase, info):
        """There from the start: for a collection without any callback CPython makes no dict, which would count."""
        LOG.append(f"phase {phase} {list(info.items())}")

    def unraisable(self, caught):
        LOG.append(f"unraisable: {caught.exc_type.__name__} {caught.exc_value} {(caught.err_msg or '').split(' <')[0]}")

    # What may happen in the middle of a collection. `number` is that of the object or reference.

    def finalized(self, instance):
        number = int(instance.tag)
        LOG.append(f"finalized {number}")
        deed, argument = self.deeds.get(number, (None, 0))
        if deed == "resurrect":
            self.kept[number] = instance
        elif deed == "resurrect through another":
            link(self.slots[argument % SLOTS], instance)
        elif deed == "refer to itself weakly":
            self.made[number] = weakref.ref(instance, self.calling_back(number + 10_000))
        elif deed == "unlink":
            instance.first = instance.second = None
        elif deed == "track":
            # Not whether it was finalized, which is noted before the finalizer runs if a collection calls it, and after if the
            # last reference is gone: what comes first depends on the order.
            LOG.append(f"tracked {gc.is_tracked(instance)}")
        else:
            self.do(deed, number, argument)

    def calling_back(self, number):
        def called_back(reference):
            alive = reference() is not None if issubclass(type(reference), weakref.ref) else "proxy"
            LOG.append(f"called back {number} {alive}")
            deed, argument = self.deeds.get(number, (None, 0))
            self.do(deed, number, argument)

        return called_back

    def do(self, deed, number, argument):
        """What finalizers, callbacks of weak references and those of the collector may all do."""
        if deed == "raise":
            raise ProgramError(number)
        if deed == "make":
            made = MAKERS[argument % len(MAKERS)](number + 100_000, None, None)
            link(made, made)
            self.made[number] = apart(made)
        elif deed == "make trash":
            made = Plain(number + 200_000)
            made.first = made
        elif deed == "drop a root":
            self.slots[argument % SLOTS] = None
        elif deed == "collect":
            LOG.append(f"collected inside: {gc.collect(argument % 3)}")
        elif deed == "allocate":
            self.made[number] = [[each] for each in range(argument % 100)]
        elif deed == "look":
            # The survivors are to be seen, in the middle of a collection as well.
            seen = [any(each is slot for each in gc.get_objects()) for slot in self.slots]
            LOG.append(f"seen {[self.describe(slot) for slot in self.slots]} {seen}")
        elif deed == "census":
            # Verify mode has two objects of its own there while it compares.
            LOG.append(f"census {None if self.is_bare else self.difference(self.census(None))}")
        elif deed == "referrers":
            LOG.append(f"referrers {self.referring(self.slots[argument % SLOTS])}")
        elif deed == "freeze":
            gc.freeze()
            self.types = {}
        elif deed == "disable":
            gc.disable()
        elif deed == "enable":
            gc.enable()
        elif deed == "threshold" and not self.is_bare:
            gc.set_threshold(5 + argument % 50, 1 + argument % 3, 1 + argument % 4)
        elif deed == "count":
            LOG.append(f"count {gc.isenabled()} {gc.get_threshold()} {None if self.is_bare else gc.get_count()}")

    # The first ones come out the same in any order.
    DEEDS = (
        *(
            "raise",
            "make",
            "make trash",
            "collect",
            "allocate",
            "resurrect",
            "refer to itself weakly",
            "unlink",
            "track",
        ),
        *("resurrect through another", "drop a root", "look", "census", "referrers"),
        *("freeze", "disable", "enable", "threshold", "count"),
    )
    IN_ANY_ORDER = 9

    # Operations that say what kind of program it is.

    def alone(self, number, first, second, third):
        self.doer = 0

    def bare(self, number, first, second, third):
        if self.is_bare:
            return
        self.is_bare = True
        gc.set_threshold(0)
        gc.callbacks.remove(self.phase)

    # Operations. Each takes the number of what it makes, and three numbers.

    def occupied(self, number):
        """A slot that holds something, if any does."""
        for slot in range(number, number + SLOTS):
            if self.slots[slot % SLOTS] is not None:
                break
        return slot % SLOTS

    def make(self, number, first, second, third):
        self.slots[number % SLOTS] = MAKERS[third % len(MAKERS)](
            number, self.slots[first % SLOTS], self.slots[second % SLOTS]
        )

    def ring(self, number, first, second, third):
        """Several objects, each referring to the one before, the first to the last."""
        start = previous = MAKERS[third % len(MAKERS)](number, self.slots[first % SLOTS], None)
        for turn in range(1, 2 + first % RING):
            maker = MAKERS[(third if second % 2 else third + turn * second) % len(MAKERS)]
            previous = maker(number + turn * 1000, previous, self.slots[(second + turn) % SLOTS])
        link(start, previous)
        link(start, start)
        self.slots[number % SLOTS] = previous

    def link(self, number, first, second, third):
        link(self.slots[self.occupied(first)], self.slots[second % SLOTS])

    def link_itself(self, number, first, second, third):
        link(self.slots[self.occupied(first)], self.slots[self.occupied(first)])

    def unlink(self, number, first, second, third):
        unlink(self.slots[self.occupied(first)])

    def drop(self, number, first, second, third):
        self.slots[self.occupied(first)] = None

    def move(self, number, first, second, third):
        first, second = self.occupied(first), second % SLOTS
        self.slots[first], self.slots[second] = self.slots[second], None

    def copy_to_container(self, number, first, second, third):
        """Containers that may be untracked, or tracked late; see kinds.apart() for what they do not hold."""
        items = self.slots[self.occupied(first)], self.slots[second % SLOTS]
        made = (
            tuple(map(apart, items)),
            {index: apart(item, (dict,)) for index, item in enumerate(items)},
            [*items],
            {"only": apart(items[0], (dict,))},
        )[third % 4]
        self.slots[number % SLOTS] = made
        LOG.append(f"tracked {gc.is_tracked(made)}")

    def foreign(self, number, first, second, third):
        """Takes an object that was made before the collector came, or ties ours and one of the library together."""
        if third % 3 and self.pool:
            self.slots[number % SLOTS] = self.pool.pop()
        elif third % 2:
            link(self.slots[self.occupied(first)], FOREIGN_ROOTS[second % len(FOREIGN_ROOTS)])
        else:
            setattr(FOREIGN_ROOTS[second % len(FOREIGN_ROOTS)], ATTRIBUTE, self.slots[self.occupied(first)])

    def keep_elsewhere(self, number, first, second, third):
        """Roots other than a list: a type, a module, a context."""
        slot = self.occupied(first)
        value = self.slots[slot]
        place = second % 4
        if place == 0:
            setattr(Plain, ATTRIBUTE, value)
        elif place == 1:
            module = sys.modules.setdefault(ATTRIBUTE, types.ModuleType(ATTRIBUTE))
            # Its dict is old when the value may be a new tuple: see apart().
            setattr(module, f"attribute_{third % 4}", apart(value))
        elif place == 2:
            kinds.VARIABLE.set(value)
        else:
            # An old dict as well.
            self.made[number] = apart(value)
        self.slots[slot] = None

    def forget_elsewhere(self, number, first, second, third):
        place = second % 4
        if place == 0 and ATTRIBUTE in vars(Plain):
            delattr(Plain, ATTRIBUTE)
        elif place == 1:
            # The module itself may be in a cycle with what it holds.
            module = sys.modules.pop(ATTRIBUTE, None)
            if module is not None and third % 2:
                module.attribute_0 = module
        elif place == 2:
            kinds.VARIABLE.set(None)
        else:
            self.made.clear()
            self.kept.clear()

    def weak(self, number, first, second, third):
        target, other = self.slots[self.occupied(first)], self.slots[second % SLOTS]
        callback = self.calling_back(number)
        way = third % 12
        try:
            if way == 0:
                self.references.append(weakref.ref(target))
            elif way in (1, 2):
                self.references.append(weakref.ref(target, callback))
            elif way == 3:
                link(target, weakref.ref(target, callback))
            elif way == 4:
                link(other, weakref.ref(target, callback))
            elif way == 5:
                # It lets go of its argument when it is called. That is a leaf, for these calls have an order as well.
                weakref.finalize(target, self.finalizer_called, number, Tag(number + 30_000)).atexit = False
            elif way == 6:
                self.values[number] = target
            elif way == 7:
                self.keys[target] = [Tag(number + 20_000), other]
            elif way == 8:
                self.members.add(target)
            elif way == 9:
                self.references.append(weakref.proxy(target, callback))
            elif way == 10:
                self.references.append(weakref.WeakMethod(target.method, callback))
            else:
                reference = Reference(target, callback)
                reference.held = [other, reference]
                self.references.append(reference)
        except (TypeError, AttributeError) as error:
            LOG.append(f"no weak reference: {type(error).__name__}")

    def finalizer_called(self, number, other):
        LOG.append(f"finalizer called {number} {type(other).__name__}")
        deed, argument = self.deeds.get(number, (None, 0))
        self.do(deed, number, argument)

    def deed(self, number, first, second, third):
        """Decides what a finalizer or a callback of a weak reference will do: that of the object in a slot, or of an operation."""
        target = self.slots[self.occupied(first)]
        key = int(target.tag) if isinstance(getattr(target, "tag", None), Tag) and first % 3 else second % (number + 20)
        if self.doer is None:
            self.deeds[key] = [self.DEEDS[second % self.IN_ANY_ORDER], third]
        elif self.doer in (0, key):
            self.doer = key
            self.deeds[key] = [self.DEEDS[second % len(self.DEEDS)], third]

    def collect(self, number, first, second, third):
        generation = (2, 2, 2, 1, 0)[first % 5]
        LOG.append(f"collected {gc.collect(generation) if second % 4 else gc.collect()}")

    def collect_in_thread(self, number, first, second, third):
        if self.threads:
            self.threads[second % len(self.threads)].collect(first % 3)

    def allocate(self, number, first, second, third):
        """Enough for collections to begin by themselves."""
        kept = [[each] for each in range(first % 200)]
        self.slots[number % SLOTS] = kept if second % 4 == 0 else None
        del kept

    def litter(self, number, first, second, third):
        """As `allocate`, but all of it garbage in cycles."""
        for _ in range(first % 100):
            cycle = []
            cycle.append(cycle)
        for turn in range(second % 3):
            cycle = Plain(number + turn * 1000)
            cycle.first = cycle
        del cycle

    def snapshot(self, number, first, second, third):
        """All there is to see."""
        count = gc.get_count()
        LOG.append(f"count {None if self.is_bare else count} threshold {gc.get_threshold()} enabled {gc.isenabled()}")
        now = gc.get_stats()
        LOG.append(f"stats {[[a[k] - b[k] for k in a] for a, b in zip(now, self.stats, strict=True)]}")
        LOG.append(f"slots {[self.describe(each) for each in self.slots]}")
        LOG.append(f"alive {''.join(self.is_alive(each) for each in self.references)}")
        LOG.append(f"values {sorted(self.values)} keys {len(self.keys)} members {len(self.members)}")
        LOG.append(f"callbacks {len(gc.callbacks)} garbage {len(gc.garbage)}")
        if self.whole:
            LOG.append(f"all {self.difference(self.census(None))}")
        else:
            for generation in range(3):
                LOG.append(f"generation {generation} {self.difference(self.census(generation))}")

    def referrers(self, number, first, second, third):
        LOG.append(f"referrers {self.referring(self.slots[self.occupied(first)])}")
        LOG.append(
            f"referents {sorted(type(each).__name__ for each in gc.get_referents(self.slots[self.occupied(first)]))}"
        )

    def thresholds(self, number, first, second, third):
        if self.is_bare:
            return
        gc.set_threshold((0, 5, 10, 20, 50, 200)[first % 6], 1 + second % 4, (0, 1, 2, 3)[third % 4])

    def switch(self, number, first, second, third):
        if first % 2:
            gc.enable()
        else:
            gc.disable()

    def freeze(self, number, first, second, third):
        gc.freeze()
        self.types = {}

    def unfreeze(self, number, first, second, third):
        if not self.whole:
            gc.unfreeze()
            self.types = self.older
            LOG.append(f"frozen {gc.get_freeze_count()} collected {gc.collect()}")
            gc.collect()  # A dict of tuples that are as old as itself may stay tracked until here.
            gc.freeze()
            self.types = {}

    def callback(self, number, first, second, third):
        deed = self.DEEDS[second % len(self.DEEDS)] if third % 2 else None

        def called(phase, info):
            LOG.append(f"callback {number} {phase} {list(info.items())}")
            if phase == ("start", "stop")[first % 2]:
                self.do(deed, number, third)

        gc.callbacks.append(called)
        self.callbacks.append(called)

    def remove_callback(self, number, first, second, third):
        if self.callbacks:
            gc.callbacks.remove(self.callbacks.pop(first % len(self.callbacks)))

    def save_all(self, number, first, second, third):
        gc.set_debug(gc.DEBUG_SAVEALL)
        LOG.append(f"saved {gc.collect()} {sorted(type(each).__name__ for each in gc.garbage)}")
        gc.set_debug(0)
        gc.garbage.clear()

    def thread(self, number, first, second, third):
        if third % 2 and self.threads:
            self.threads.pop(first % len(self.threads)).end()
        elif len(self.threads) < 3:
            slot = self.occupied(first)
            self.threads.append(Thread(apart(self.slots[slot]), apart(self.slots[second % SLOTS])))
            self.slots[slot] = None

    # Operations inside something: `following` run while it is on the stack and holds the only reference to what was in the slot.

    def call(self, slot, following):
        held, self.slots[slot] = [self.slots[slot]], None
        self.some(following)
        held.append(held)

    def call_in_generator(self, slot, following):
        def generator():
            held, self.slots[slot] = [self.slots[slot]], None
            self.some(following)
            yield held

        next(generator())

    def call_in_coroutine(self, slot, following):
        async def coroutine():
            held, self.slots[slot] = [self.slots[slot]], None
            await kinds.Pause()
            self.some(following)
            held.append(held)

        running = coroutine()
        running.send(None)
        try:
            running.send(None)
        except StopIteration:
            pass

    def call_in_handler(self, slot, following):
        """While an exception is handled, whose traceback holds a frame."""
        try:
            kinds._raising(1, slot, self.slots[slot], None)
        except ProgramError:
            self.slots[slot] = None
            self.some(following)

    def call_in_context(self, slot, following):
        context = contextvars.copy_context()
        context.run(kinds.VARIABLE.set, self.slots[slot])
        self.slots[slot] = None
        context.run(self.some, following)

    # What is written down.

    def describe(self, value):
        return f"{type(value).__name__}{' tracked' if gc.is_tracked(value) else ''}"

    def is_alive(self, reference):
        if issubclass(type(reference), weakref.ref):
            return "-" if reference() is None else "+"
        try:
            _ = reference.tag
        except ReferenceError:
            return "-"
        except AttributeError:
            pass
        return "+"

    def census(self, generation):
        # No Counter: it asks abstract classes, whose caches are objects.
        found = {}
        for each in gc.get_objects(generation):
            name = type(each).__name__
            found[name] = found.get(name, 0) + 1
        return found

    def difference(self, found):
        names = sorted(found.keys() | self.types.keys())
        differences = [(name, found.get(name, 0) - self.types.get(name, 0)) for name in names]
        return " ".join(f"{name}:{number:+}" for name, number in differences if number)

    def referring(self, value):
        """Types of what refers to a value: the program's, not the library's."""
        if value is None or isinstance(value, (types.ModuleType, type)):
            return []
        return sorted(type(each).__name__ for each in gc.get_referrers(value))
