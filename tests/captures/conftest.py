"""Programs whose captures are read back."""

import pytest
import recorded


@pytest.fixture
def captured(driver):
    """Calls as `captured(program)`: runs it with exact counts and a capture; the outcome, and all captures, the program's own first."""

    def call(program, *arguments, options=(), name="run.hk", **others):
        driver.write("program.py", program)
        run = ["-q", "--profile", "exact", "-o", name, *options, "program.py", *arguments]
        outcome = driver.run(*run, **others)
        return outcome, [
            recorded.read(path)
            for path in sorted(driver.folder.glob("*.hk"), key=lambda path: (len(path.name), path.name))
        ]

    return call
