"""What heapkeeper raises itself. Users know them as names of the package."""


class HeapkeeperError(Exception):
    """Everything heapkeeper raises itself."""

    __module__ = "heapkeeper"


class SettingsError(HeapkeeperError, ValueError):
    """A size, an option or a value of HEAPKEEPER that cannot be understood."""

    __module__ = "heapkeeper"


class NotInstalledError(HeapkeeperError, RuntimeError):
    """The call needs our heap, and this process runs on CPython's allocator."""

    __module__ = "heapkeeper"


class CaptureError(HeapkeeperError, RuntimeError):
    """A capture cannot be written."""

    __module__ = "heapkeeper"
