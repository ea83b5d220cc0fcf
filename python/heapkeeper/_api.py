"""The functions of the package: what `heapkeeper.install()` and its like are. What one needs, it imports when called."""


def install(*, profile="sample", sample_bytes=512 * 1024, max_heap=None, seed=None, gc=None):
    """Put this process on our heap; what was allocated before stays where it is, and is freed there.

    Idempotent: a process that is on our heap already stays as it is. Returns whether the process is on our heap. Where
    this interpreter cannot be served, a RuntimeWarning says why, and CPython's allocator or its collector stays.

    profile: **"sample"**, "exact" (every allocation is counted) or "off". sample_bytes: mean distance between two samples, **512 KiB**. max_heap: hard limit,
    **none**. Both are bytes, or a size such as "64M". seed: makes the sampler repeatable; **random**. gc: who does this
    interpreter's full collections of cycles: "heapkeeper"; "background": the same, but a forked child searches large heaps;
    "cpython"; or "verify": CPython, compared with ours. Another call may change that. **"heapkeeper"**, or what was said last.
    """
    from heapkeeper import _settings

    settings = _settings.Settings()
    settings.profile = _settings.choice(profile, _settings.PROFILES)
    settings.sample_bytes = _settings.positive_size(sample_bytes)
    settings.max_heap = None if max_heap is None else _settings.heap_limit(max_heap)
    settings.seed = None if seed is None else _settings.seed(str(seed))
    settings.gc = None if gc is None else _settings.choice(gc, _settings.COLLECTORS)
    reasons = {"allocator": _settings.install(settings), "collector": _settings.install_collector(settings)}
    for part, reason in reasons.items():
        if reason is not None:
            import warnings

            warnings.warn(f"CPython's {part} stays: {reason}", RuntimeWarning, stacklevel=2)
    return reasons["allocator"] is None


def status():
    """This process's state as plain data: the heap's tiers, the process, the sampled call sites.

    The same as ``heapkeeper run --json`` prints at exit. On CPython's allocator, ``allocator.name`` says so.
    """
    import json

    from heapkeeper import _interpreter, _native

    return _answer(lambda: json.loads(_native.status_json(_interpreter.program())))


def report(columns=100):
    """The report that ``heapkeeper run`` prints at exit, of this moment, as plain text for lines of `columns`."""
    from heapkeeper import _interpreter, _native

    return _answer(lambda: _native.report(_interpreter.program(), columns, False))


def _answer(work):
    """What `work` returns, which may take more memory than the limit allows: it is asked for where there is none left."""
    from heapkeeper import _native

    widened = _native.widen_limit()
    try:
        return work()
    finally:
        _native.narrow_limit(widened)


def get_ready_for_the_limit():
    """Import what status() and report() need: at the limit there is no memory for that."""
    import json  # noqa: F401

    from heapkeeper import _interpreter  # noqa: F401


def where(obj):
    """Where one object lives, as a dict.

    address, type, refcount (the reference that this call holds included, as with sys.getrefcount), immortal, interned,
    tracked (by the cyclic collector), generation (0 to 2, None for an object that is in none), owner: "heapkeeper",
    "static" (part of the interpreter's own image) or "cpython" (allocated before us, or by somebody else). For objects of
    ours also heap, arena, tier ("block" or "span"), block_bytes, offset_bytes (of the object in its block: the collector's
    header comes before it), and for blocks size_class, pool, block.

    Looks through all objects that the collector tracks: about 20 ms a million.
    """
    import gc

    from heapkeeper import _native

    place = _native.where(obj)
    place["tracked"] = gc.is_tracked(obj)
    place["generation"] = None
    if place["tracked"]:
        for generation in range(3):
            if any(other is obj for other in gc.get_objects(generation=generation)):
                place["generation"] = generation
                break
    return place


def limit(size):
    """Set the hard limit of our heap, in bytes or as a size such as "64M"; None lifts it.

    Beyond it, allocations fail with MemoryError. status() and report() are answered even then.

    Raises NotInstalledError on CPython's allocator, SettingsError for a size that is none.
    """
    from heapkeeper import _errors, _native, _settings

    limit_bytes = 0 if size is None else _settings.heap_limit(size)
    if not _native.installed():
        raise _errors.NotInstalledError("this process runs on CPython's allocator; call heapkeeper.install() first")
    if size is not None:
        get_ready_for_the_limit()
    _native.limit(limit_bytes)


def mark(name):
    """Name this moment in the capture of this process: "after warm-up". Without a capture it does nothing.

    Returns whether there is a capture.
    """
    from heapkeeper import _native

    return _native.capture_mark(str(name))


def trim():
    """Give free memory back to the OS now instead of after its decay. Returns the bytes given back."""
    from heapkeeper import _native

    return _native.trim()


def load_ipython_extension(shell):
    """`%load_ext heapkeeper`: the magics %%heapkeeper, %memit and %mprun."""
    from heapkeeper import jupyter

    jupyter.load(shell)
