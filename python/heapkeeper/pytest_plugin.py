"""What pytest loads of us at every start: the options and the markers. All else is imported when it is asked for."""


def pytest_addoption(parser):
    group = parser.getgroup("heapkeeper", "memory of tests")
    group.addoption(
        "--heapkeeper",
        action="store_true",
        help="measure what each test allocates, keep the limits of limit_memory and limit_leaks, and show the largest tests",
    )
    group.addoption(
        "--heapkeeper-top",
        type=int,
        default=10,
        metavar="N",
        help="show the N largest tests, 0 for all (default: 10)",
    )
    parser.addini("heapkeeper", "the same as --heapkeeper", type="bool", default=False)


def pytest_configure(config):
    config.addinivalue_line(
        "markers",
        "limit_memory(size): with --heapkeeper, the test fails if more than `size` is live at once of what it allocates; "
        'such as "24 MB".',
    )
    config.addinivalue_line(
        "markers",
        "limit_leaks(size, *, calls=20, warmups=3): with --heapkeeper, the test is called again and again, and fails if "
        'memory grows by more than `size` a call; such as "1 KB".',
    )
    if config.getoption("heapkeeper") or config.getini("heapkeeper"):
        from heapkeeper import _pytest

        config.pluginmanager.register(_pytest.Memory(config), "heapkeeper-memory")
