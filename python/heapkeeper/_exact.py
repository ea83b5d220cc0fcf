"""Exact mode's users: one state a process, on while somebody needs it.

Invariant: exact mode was on before the first user came, or it stops when the last one ends. Called by Tracker, the
drop-ins, the pytest plugin and `leak`; each begins before it measures and ends after it has read what it wants.
"""

import _thread

# Innermost frames of a stack that are kept. More tell a site's callers apart, and make more sites.
FRAMES = 16

_lock = _thread.RLock()
_users = 0
_was_on = False


def begin(max_frames=FRAMES):
    """Count every allocation from now on; put this process on our heap if it is not.

    Where somebody counts already, their number of frames stays. Raises NotInstalledError where this interpreter cannot be
    served; the reason has been given as a RuntimeWarning.
    """
    global _users, _was_on
    import heapkeeper

    with _lock:
        if _users == 0:
            if not heapkeeper.install():
                raise heapkeeper.NotInstalledError("memory is counted on our heap only, and CPython's allocator stays")
            from heapkeeper import _native

            _was_on = _native.exact_on()
            if not _was_on:
                reason = _native.exact_start(max_frames)
                if reason is not None:
                    raise heapkeeper.NotInstalledError(reason)
        _users += 1


def end():
    """One user less."""
    global _users
    from heapkeeper import _native

    with _lock:
        _users -= 1
        if _users == 0 and not _was_on and _native.exact_on():
            _native.exact_stop()
