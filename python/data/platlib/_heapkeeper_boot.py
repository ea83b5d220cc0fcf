"""Puts a starting interpreter on heapkeeper's heap. Called from heapkeeper.pth when HEAPKEEPER is in the environment.

Runs inside `site`, before any of the program's code. Whatever goes wrong here costs one line on stderr, never the
program: it then runs on CPython's allocator. Each child interpreter pays for it. So with the default settings, which is
what most processes have, it loads the package's native module alone, and the package stays to be imported by whoever wants
it. All other settings are `heapkeeper._boot`'s.

PYTEST_DONT_REWRITE: we are imported before pytest, which would warn that it comes too late.
"""

import os
import sys

# As in heapkeeper._settings.
DEFAULT_SAMPLE_BYTES = 512 * 1024

_booted = False


def boot():
    """Follow HEAPKEEPER, once an interpreter."""
    global _booted
    if _booted:  # A second heapkeeper.pth: a virtual environment that also sees the system's packages.
        return
    _booted = True
    text = os.environ.get("HEAPKEEPER", "")
    try:
        if text not in ("1", "on") or not follow_defaults():
            from heapkeeper import _boot

            _boot.follow(text)
    except Exception as error:
        complain(f"{type(error).__name__}: {error}")


def follow_defaults():
    """The heap, sampled, with its collector. False, and nothing done, in any but the main interpreter."""
    try:
        native = load_native()
    except ImportError as error:
        complain(f"CPython's allocator stays: {error}")
        return True
    if not native.in_main_interpreter():
        return False
    reason = native.install(DEFAULT_SAMPLE_BYTES, 0, 0)
    if reason is not None:
        complain(f"CPython's allocator stays: {reason}")
        return True
    reason = native.gc_install("heapkeeper")
    if reason is not None:
        complain(f"CPython's collector stays: {reason}")
    return True


def load_native():
    """`heapkeeper._native`: from beside this file, if nobody has said where else the package may be.

    By what `importlib` does once it has found a file; looking for it takes as long as all the rest.
    """
    name = "heapkeeper._native"
    bootstrap, external = sys.modules.get("_frozen_importlib"), sys.modules.get("_frozen_importlib_external")
    if name not in sys.modules and bootstrap and external and not _is_elsewhere():
        import _imp

        path = os.path.join(os.path.dirname(__file__), "heapkeeper", "_native" + _imp.extension_suffixes()[0])
        if os.path.isfile(path):
            spec = bootstrap.ModuleSpec(name, external.ExtensionFileLoader(name, path), origin=path)
            spec.has_location = True
            return bootstrap._load(spec)
    from heapkeeper import _native

    return _native


def _is_elsewhere():
    """Whether PYTHONPATH, which comes before this file's folder, has a package of this name."""
    folders = os.environ.get("PYTHONPATH")
    return folders is not None and any(
        os.path.exists(os.path.join(folder, "heapkeeper")) for folder in folders.split(os.pathsep)
    )


def complain(text):
    """One line on stderr."""
    from heapkeeper import _boot

    _boot.complain(text)
