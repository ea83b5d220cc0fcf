"""Opens flame graphs in a real Chromium, without a network, and reads what is on the screen.

The browser is the system's own (Debian: `apt-get install chromium`); Playwright only drives it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

PROJECT = Path(__file__).resolve().parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# Where a node's box is in the window, by its row and its place in the row.
BOXES = """() => chart.rows.map((row, depth) => row.map((box) => {
  const { left, top } = chart.canvas.getBoundingClientRect();
  const name = box.node ? describe(data, box.node.frame).name : null;
  const y = top + 4 + (depth + 0.5) * chart.rowHeight - chart.container.scrollTop;
  return { name, x: left + box.x + box.width / 2, y, width: box.width };
}))"""


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium. Its driver keeps an event loop running in this thread: it ends before other tests begin."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("no Chromium here: `apt-get install chromium` brings one")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def draw(tmp_path_factory):
    """Makes the HTML file of stacks, or of a difference for a list of two."""
    folder = tmp_path_factory.mktemp("flame")
    files = {}

    def draw(stacks):
        text = json.dumps(stacks)
        if text not in files:
            command = ["cargo", "run", "--quiet", "--package", "heapkeeper-analysis", "--example", "flame"]
            page = subprocess.run(command, cwd=PROJECT, input=text.encode(), capture_output=True)
            assert page.returncode == 0, page.stderr.decode()[-4000:]
            files[text] = folder / f"{len(files)}.html"
            files[text].write_bytes(page.stdout)
        return files[text]

    return draw


class Opened:
    """A page on the screen."""

    def __init__(self, page: Page):
        self.page = page

    def rows(self):
        """The boxes by row: name, centre and width, in pixels of the window."""
        return self.page.evaluate(BOXES)

    def names(self, depth):
        """The names of a row's boxes from left to right, those of boxes too narrow for one left out."""
        rows = self.rows()
        return [box["name"] for box in rows[depth] if box["name"] is not None] if depth < len(rows) else []

    def box(self, name):
        """The widest box of a name."""
        found = [box for row in self.rows() for box in row if box["name"] == name]
        assert found, f"no box of {name}"
        return max(found, key=lambda box: box["width"])

    def click(self, name):
        box = self.box(name)
        self.page.mouse.click(box["x"], box["y"])

    def zoomed(self):
        """The name of the node that fills the width."""
        return self.page.evaluate("describe(data, chart.zoomed.frame).name")

    def text(self, selector):
        """What an element says, with plain blanks."""
        return self.page.locator(selector).inner_text().replace("\u00a0", " ")

    def color(self, name):
        """Red, green and blue of a box, beside its text."""
        box = self.box(name)
        self.page.wait_for_function("!chart.frameRequested")
        return self.page.evaluate(
            """([x, y]) => {
              const { left, top } = chart.canvas.getBoundingClientRect();
              const ratio = chart.canvas.width / chart.width;
              const copy = new OffscreenCanvas(1, 1).getContext("2d");
              copy.drawImage(chart.canvas, (left - x) * ratio, (top - y) * ratio);
              return Array.from(copy.getImageData(0, 0, 1, 1).data.slice(0, 3));
            }""",
            [box["x"] - box["width"] / 2 + 3, box["y"]],
        )


@pytest.fixture
def open_page(browser, draw):
    """Opens the flame graph of stacks. Whatever a test does then, the page may neither complain nor ask for anything."""
    contexts = []
    complaints = []

    def open_page(stacks, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 720}, "offline": True, **options})
        contexts.append(context)
        page = context.new_page()
        address = draw(stacks).as_uri()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: request.url in (address, "data:,") or complaints.append(request.url))
        page.goto(address)
        page.wait_for_function("!chart.frameRequested")
        return Opened(page)

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
