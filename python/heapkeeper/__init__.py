"""Python's memory manager in Rust: a heap under the running CPython that says where memory went.

``heapkeeper run app.py`` puts a program on it from the start; ``install()`` does so from inside. Every process
that has ``HEAPKEEPER`` in its environment imports this module at start-up, so it holds names only: what a name stands
for is imported when it is first used.

PYTEST_DONT_REWRITE: with HEAPKEEPER we are imported before pytest, which would warn that it comes too late.
"""

__all__ = [
    "CaptureError",
    "HeapkeeperError",
    "NotInstalledError",
    "SettingsError",
    "Tracker",
    "__version__",
    "install",
    "limit",
    "mark",
    "report",
    "status",
    "trim",
    "where",
]

# Modules by the names that they hold; all other names are the API's.
_HOMES = {
    "CaptureError": "_errors",
    "HeapkeeperError": "_errors",
    "NotInstalledError": "_errors",
    "SettingsError": "_errors",
    "Tracker": "tracker",
}


def __getattr__(name):
    if name == "__version__":
        from importlib.metadata import version

        return version("heapkeeper")
    if name == "gc":  # Not in __all__: `from heapkeeper import *` must not hide the standard module.
        import heapkeeper.gc as module

        return module
    if name not in __all__ and name != "load_ipython_extension":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Not by importlib, which imports more than all of this.
    home = __import__(f"heapkeeper.{_HOMES.get(name, '_api')}", fromlist=[name])
    value = globals()[name] = getattr(home, name)
    return value


def __dir__():
    return sorted({*globals(), *__all__, "gc"})
