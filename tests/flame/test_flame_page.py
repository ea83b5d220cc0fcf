"""The flame graph as its reader uses it, in a browser."""

import pytest
from generated import MIB, crowd, service, service_later, stack

PHONE = {"viewport": {"width": 390, "height": 760}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


def test_it_says_what_it_is_of(open_page):
    opened = open_page(service())
    assert opened.page.title() == "shop/app.py · live at the peak · heapkeeper"
    assert opened.text("h1") == "shop/app.py · live at the peak"
    assert opened.text("#totals") == "369 MiB in 1.8 million blocks · 52 stacks in 3 threads"


def test_boxes_lie_below_their_callers_the_widest_first(open_page):
    opened = open_page(service())
    assert opened.names(0) == ["everything"]
    assert opened.names(1)[:3] == ["<module>", "Thread._bootstrap", "(no Python frame)"]
    assert opened.names(2)[:2] == ["load_catalogue", "serve"]
    widths = [[box["width"] for box in row] for row in opened.rows()]
    assert sum(widths[1]) == pytest.approx(widths[0][0], abs=2)
    module, serve = opened.box("<module>"), opened.box("serve")
    assert module["x"] - module["width"] / 2 < serve["x"] < module["x"] + module["width"] / 2


def test_boxes_are_drawn_in_the_colour_of_their_owner(open_page):
    light = open_page(service())
    program, package, standard = (light.color(name) for name in ("serve", "Application.handle", "loads"))
    assert program[0] > program[2] + 60 and package[1] > package[0] + 30 and standard[2] > standard[0] + 20
    dark = open_page(service(), color_scheme="dark")
    assert sum(dark.color("serve")) < sum(program) - 100
    dark.page.emulate_media(color_scheme="light")
    dark.page.wait_for_timeout(100)
    assert dark.color("serve") == program


def test_a_click_zooms_and_a_click_above_zooms_out(open_page):
    opened = open_page(service())
    reset = opened.page.locator("#reset")
    assert reset.is_disabled()
    whole = opened.box("everything")["width"]
    opened.click("Application.handle")
    assert opened.zoomed() == "Application.handle"
    assert opened.box("Application.handle")["width"] == whole == opened.box("serve")["width"]
    assert "load_catalogue" not in opened.names(2)
    assert "138 MiB" in opened.text("#details")
    opened.click("serve")
    assert opened.zoomed() == "serve"
    reset.click()
    assert opened.zoomed() == "everything" and reset.is_disabled()
    assert "load_catalogue" in opened.names(2)


def test_keys_select_and_zoom(open_page):
    opened = open_page(service())
    page = opened.page
    page.focus("#chart")
    for key in ("ArrowDown", "ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert opened.text("#details").startswith("serve")
    assert "/srv/shop/app.py:88" in opened.text("#details")
    page.keyboard.press("ArrowLeft")
    assert opened.text("#details").startswith("load_catalogue")
    page.keyboard.press("Enter")
    assert opened.zoomed() == "load_catalogue"
    page.keyboard.press("Backspace")
    assert opened.zoomed() == "<module>"
    page.keyboard.press("Escape")
    assert opened.zoomed() == "everything"
    page.keyboard.press("/")
    page.keyboard.type("basket")
    assert page.input_value("#search") == "basket"
    page.keyboard.press("Escape")
    assert page.input_value("#search") == "" and opened.text("#found") == ""


def test_search_shows_the_share_of_what_matches(open_page):
    opened = open_page(service())
    plain = opened.color("Basket.add")
    opened.page.fill("#search", "SESSIONS.py")
    assert opened.text("#found") == "19 % · 72 MiB"
    assert opened.color("Sessions.remember") != plain
    # Matching frames inside one another count once.
    opened.page.fill("#search", "shop")
    assert opened.text("#found") == "99 % · 364 MiB"
    opened.page.fill("#search", "^(Basket|thumb)")
    assert opened.text("#found") == "nothing matches"
    opened.page.click("#regex")
    assert opened.text("#found") == "41 % · 152 MiB"
    opened.page.fill("#search", "(")
    assert opened.text("#found") == "not a regular expression"
    opened.page.fill("#search", "")
    assert opened.text("#found") == ""
    assert opened.color("Basket.add") == plain


def test_the_tooltip_tells_bytes_blocks_and_share(open_page):
    opened = open_page(service())
    box = opened.box("load_catalogue")
    opened.page.mouse.move(box["x"], box["y"])
    lines = opened.text("#tooltip").splitlines()
    assert lines[:4] == [
        "load_catalogue",
        "/srv/shop/catalogue.py:31",
        "146 MiB in 1.1 million blocks",
        "40 % of all bytes",
    ]
    assert lines[4:] == ["9.0 MiB in 1,200 blocks by this line itself"]
    opened.page.mouse.move(box["x"], 650)
    assert opened.page.locator("#tooltip").is_hidden()


def test_inverted_has_the_lines_that_allocate_on_top(open_page):
    opened = open_page(service())
    opened.page.click("text=Inverted")
    assert opened.names(1)[:3] == ["JSONDecoder.raw_decode", "Sessions.remember", "Image.resize"]
    assert opened.names(2)[:3] == ["loads", "Basket.add", "thumbnail"]
    opened.click("Sessions.remember")
    assert opened.zoomed() == "Sessions.remember"
    assert [opened.names(depth) for depth in (4, 5)] == [["Application.dispatch"], ["Application.handle"]]
    opened.page.click("text=Callers first")
    assert opened.zoomed() == "everything"


def test_blocks_instead_of_bytes_keep_the_zoom(open_page):
    opened = open_page(service())
    opened.click("load_catalogue")
    opened.page.click("[data-metric=blocks]")
    assert opened.zoomed() == "load_catalogue"
    assert "63 % of all blocks" in opened.text("#details")
    opened.page.click("#reset")
    # Pictures are few blocks, however large.
    assert "thumbnail" not in {box["name"] for row in opened.rows() for box in row}


def test_threads_come_first_if_asked_for(open_page):
    opened = open_page(service())
    opened.page.click("text=By thread")
    assert opened.names(1) == ["MainThread", "worker-2", "worker-1"]
    opened.click("worker-2")
    assert "34 MiB in 384 blocks" in opened.text("#details")
    opened.page.click("text=Inverted")
    assert opened.names(1) == ["MainThread", "worker-2", "worker-1"]


def test_a_single_thread_is_no_choice(open_page):
    opened = open_page({"title": "one", "entries": [stack(1, 1, ("f", "a.py", 1))]})
    assert opened.page.locator("#threads").is_hidden()


def test_names_are_text_whatever_they_say(open_page):
    markup = "</script><img src=x onerror=alert(1)><script>alert(2)</script>"
    title = f"{markup} {{{{data}}}} & more"
    entries = [
        stack(5, 1, (markup, markup, 1), ("__proto__", "constructor", 2), thread=markup),
        stack(1, 1, thread="__proto__"),
    ]
    opened = open_page({"title": title, "entries": entries})
    assert opened.text("h1") == title
    box = opened.box(markup)
    opened.page.mouse.move(box["x"], box["y"])
    assert opened.text("#tooltip").splitlines()[0] == markup
    opened.page.click("text=By thread")
    assert opened.names(1) == [markup, "__proto__"]
    assert opened.page.locator("img").count() == 0


def test_long_names_are_cut_where_they_are_drawn(open_page):
    long = "long_" * 2000
    opened = open_page({"title": long, "entries": [stack(5, 1, (long, f"/{long}.py", 3))]})
    box = opened.box(long)
    opened.page.mouse.move(box["x"], box["y"])
    assert opened.text("#tooltip").splitlines()[0] == long
    cut = opened.page.evaluate("chart.cut(data.functions[0], 200)")
    assert cut.endswith("…") and 10 < len(cut) < 60
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.page.evaluate("chart.height > 200")


def test_twenty_thousand_stacks(open_page):
    opened = open_page(crowd(20_000, 40))
    assert opened.text("#totals").endswith("20,000 stacks in 12 threads")
    # Only what is wide enough is looked at: no more boxes than pixels, in any row.
    assert max(len(row) for row in opened.rows()) <= 1280
    opened.page.fill("#search", "leaf_7")
    assert "%" in opened.text("#found")
    name = opened.names(2)[0]
    opened.click(name)
    assert opened.zoomed() == name
    opened.page.click("text=Inverted")
    assert opened.names(1)[0].startswith("leaf_")
    assert opened.rows()[1][-1]["name"] is None, "thousands of narrow boxes are one"
    opened.page.click("text=By thread")
    assert len(opened.names(1)) == 12


def test_ten_thousand_frames_deep(open_page):
    frames = [("descend", "/srv/deep.py", 3)] * 10_000
    opened = open_page({"title": "deep", "entries": [stack(9, 1, *frames, ("bottom", "/srv/deep.py", 9))]})
    opened.page.evaluate("chart.container.scrollTop = 1e9")
    opened.page.wait_for_function("!chart.frameRequested")
    opened.click("bottom")
    assert opened.zoomed() == "bottom"
    opened.page.keyboard.press("Escape")
    assert opened.zoomed() == "everything"


def test_a_difference_is_red_where_it_grew_and_blue_where_it_shrank(open_page):
    opened = open_page([service(), service_later()])
    assert opened.text("h1") == "shop/app.py · live at the peak → shop/app.py · an hour later"
    assert opened.text("#totals").startswith("+97 MiB (+26 %) · before 369 MiB in 1.8 million blocks · after 467 MiB")
    red, _, blue = opened.color("Sessions.remember")
    assert red > blue + 40
    red, _, blue = opened.color("Catalogue.rows")
    assert blue > red + 40
    red, green, blue = opened.color("front")
    assert max(red, green, blue) - min(red, green, blue) < 16, "what stayed is grey"


def test_a_difference_shows_what_is_in_one_record_only(open_page):
    opened = open_page([service(), service_later()])
    opened.click("Index.rebuild")
    assert "only after: +64 MiB" in opened.text("#details") and "before: 0 B in 0 blocks" in opened.text("#details")
    opened.page.click("#reset")
    opened.click("thumbnail")
    assert "only before: −62 MiB" in opened.text("#details")
    opened.page.fill("#search", "thumbnail")
    assert opened.text("#found") == "−62 MiB: 62 MiB → 0 B"
    opened.page.click("text=Inverted")
    assert opened.names(1)[:2] == ["Sessions.remember", "JSONDecoder.raw_decode"]


@pytest.mark.parametrize("record", [service(), [service(), service_later()]], ids=["one", "difference"])
def test_on_a_phone(open_page, record):
    opened = open_page(record, **PHONE)
    assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.page.evaluate("chart.height") > 300
    box = opened.box("Application.handle")
    opened.page.touchscreen.tap(box["x"], box["y"])
    assert opened.zoomed() == "Application.handle"
    assert opened.text("#details").startswith("Application.handle")
    assert opened.page.locator("#tooltip").is_hidden()


def test_a_record_without_stacks(open_page):
    opened = open_page({"title": "nothing", "entries": []})
    assert opened.page.locator("#empty").is_visible()
    opened.page.focus("#chart")
    for key in ("ArrowDown", "ArrowDown", "Enter", "Backspace", "Escape"):
        opened.page.keyboard.press(key)
    opened.page.fill("#search", "x")
    assert opened.text("#found") == "nothing matches"


def test_numbers_read_as_in_the_reports_of_the_terminal(open_page):
    page = open_page({"title": "", "entries": []}).page
    sizes = [0, 96, 1023, 1024, 9.6 * MIB, 412 * MIB, 3 << 40]
    said = [text.replace("\u00a0", " ") for text in page.evaluate("sizes => sizes.map(bytes)", sizes)]
    assert said == ["0 B", "96 B", "1023 B", "1.0 KiB", "9.6 MiB", "412 MiB", "3.0 TiB"]
    counts = [1, 999, 3012, 999_999, 2_100_000, 3_000_000_000]
    said = [text.replace("\u00a0", " ") for text in page.evaluate("counts => counts.map(count)", counts)]
    assert said == ["1", "999", "3,012", "999,999", "2.1 million", "3.0 billion"]
    said = page.evaluate("[[0, 0], [1, 1000], [0, 5], [1, 2], [5, 5]].map(([part, whole]) => percent(part, whole))")
    assert [text.replace("\u00a0", " ") for text in said] == ["0 %", "<1 %", "0 %", "50 %", "100 %"]
