"""The studio in a real browser: mouse, keyboard, touch, a dead kernel, two on one page, narrow, dark.

Needs what `conftest.py` needs, and anywidget; skips with a reason where one of them is missing.
"""

import json
import os
import signal
import time

import pytest
import torch

import pixelhelpers as ph
from tests.browser.driver import execute, open_notebook

pytest.importorskip("anywidget", reason="needs anywidget: pip install -e '.[notebooks]'")

CELL = 'import pixelhelpers as ph\n\nph.widgets.studio(images=ph.load_images("digits"))'
BOARD = ".px canvas.draws"
RUN_ALL = "notebook:run-all-cells"
KEEPS_KEYS = "document.activeElement.dataset.lmSuppressShortcuts === 'true'"  # Notebook 7 asks the part with the focus


def open_cells(page, lab, folder, *sources: str, wait: str = BOARD) -> None:
    """Opens a notebook of these cells and runs them."""
    cells = [
        {"cell_type": "code", "id": f"c{k}", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
        for k, source in enumerate(sources)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    name = f"n{time.time_ns()}.ipynb"
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (folder / name).write_text(json.dumps(notebook))
    open_notebook(page, lab, name)
    execute(page, RUN_ALL)
    page.locator(wait).first.wait_for()
    page.locator(wait).first.scroll_into_view_if_needed()


def box(page, at: tuple[int, int], board: str = BOARD) -> tuple[float, float]:
    """Where on the page the pixel (row, column) of a board is."""
    place = page.locator(board).first.bounding_box()
    return place["x"] + (at[1] + 0.5) * place["width"] / 28, place["y"] + (at[0] + 0.5) * place["height"] / 28


def stroke(page, *pixels: tuple[int, int]) -> None:
    page.mouse.move(*box(page, pixels[0]))
    page.mouse.down()
    for pixel in pixels[1:]:
        page.mouse.move(*box(page, pixel), steps=6)
    page.mouse.up()


def finished(page, root: int = 0) -> None:
    page.wait_for_function(f"document.querySelectorAll('.px')[{root}].dataset.painting === 'done'")


def seen(page, selector: str, k: int = 0) -> torch.Tensor:
    """The levels that a board shows, uint8 [1, 28, 28], read from the middles of its enlarged pixels."""
    grey = page.evaluate(
        """([selector, k]) => {
            const board = document.querySelectorAll(selector)[k], scale = board.width / 28;
            const data = board.getContext('2d').getImageData(0, 0, board.width, board.height).data;
            return Array.from({length: 784}, (_, p) => {
                const row = Math.floor((Math.floor(p / 28) + 0.5) * scale), column = Math.floor((p % 28 + 0.5) * scale);
                return data[4 * (row * board.width + column)];
            });
        }""",
        [selector, k],
    )
    return torch.tensor(grey, dtype=torch.uint8).view(1, 28, 28)


def test_half_a_drawing_by_mouse_is_completed_as_sample_does(page, lab, folder, tmp_path):
    open_cells(page, lab, folder, CELL)
    page.get_by_role("button", name="clear").click()
    stroke(page, (4, 6), (4, 20), (9, 16))
    finished(page)
    page.screenshot(path=tmp_path / "drawn.png")
    drawing = seen(page, BOARD)
    assert (drawing[0, 4, 6:20] > 150).all() and (drawing > 0).sum() > 40
    known = torch.arange(28)[:, None].expand(28, 28) < 10
    model = ph.load_pretrained("pixelcnn-digits")
    expected = ph.sample(model, 3, given=drawing, known=known, seed=0, progress=False)
    for k in range(3):
        assert torch.equal(seen(page, ".px figure canvas[role=application]", k), expected[k])


def test_the_keyboard_alone_reaches_every_control_and_draws(page, lab, folder, tmp_path):
    open_cells(page, lab, folder, CELL)
    every = "Array.from(document.querySelectorAll('.px :is(button, input, select, [tabindex])'))"
    controls = f"{every}.filter(c => c.checkVisibility())"
    names = page.evaluate(f"{controls}.map((c, k) => c.dataset.k = String(k))")
    assert len(names) > 20
    page.evaluate(f"{controls}[0].focus()")
    reached = []
    for _ in names:
        reached.append(page.evaluate("document.activeElement.dataset.k"))
        assert page.evaluate(KEEPS_KEYS), reached[-1]
        page.keyboard.press("Tab")
    assert reached == names
    unnamed = page.evaluate(
        f"""{controls}.filter(c => !(c.textContent.trim() || c.getAttribute('aria-label')
            || c.labels?.[0]?.textContent.trim())).map(c => c.outerHTML)"""
    )
    assert not unnamed

    page.get_by_role("button", name="clear").press("Enter")
    page.locator(BOARD).focus()
    for key in ["ArrowDown", "ArrowDown", "ArrowRight", " ", "ArrowRight", "ArrowRight", "ArrowRight", " ", "e"]:
        page.keyboard.press(key)
    for key in ["ArrowDown", "ArrowDown", "k"]:
        page.keyboard.press(key)
    finished(page)
    assert "row 4, column 4" in page.locator(".px .unseen[aria-live]").inner_text()
    drawing = seen(page, BOARD)
    assert set(drawing[0, :5].nonzero()[:, 1].tolist()) == {1, 2}  # the second dab was erased again; below, all is dim
    known = torch.arange(28)[:, None].expand(28, 28) < 5
    model = ph.load_pretrained("pixelcnn-digits")
    expected = ph.sample(model, 3, given=drawing, known=known, seed=0, progress=False)
    assert torch.equal(seen(page, ".px figure canvas[role=application]"), expected[0])

    page.keyboard.press("Enter")
    said = page.locator(".px .said")
    page.wait_for_function("document.querySelector('.px .said').textContent.includes('Row 4, column 4')")
    page.get_by_role("button", name="the next one").press("Enter")
    page.wait_for_function("document.querySelector('.px .said').textContent.includes('Row 4, column 5')")
    assert "number 118 in the drawing order" in said.inner_text()
    page.get_by_text("In blue what it could see").wait_for()
    drawing[0, 5:] = 0  # dim on the canvas, black to the model
    with torch.inference_mode():
        row, column = divmod(int(model.predict(drawing[None]).log_prob(drawing[None].long()).argmin()), 28)
    page.get_by_role("button", name="the dearest one").press("Enter")
    page.wait_for_function(f"document.querySelector('.px .said').textContent.includes('Row {row}, column {column},')")
    assert "the tallest bar is" in page.locator(".px figcaption:visible").last.inner_text()
    page.locator(".px canvas.chart").scroll_into_view_if_needed()
    page.screenshot(path=tmp_path / "asked.png")


def test_a_finger_draws(page, lab, folder):
    open_cells(page, lab, folder, CELL)
    page.get_by_role("button", name="clear").click()
    finger = page.context.new_cdp_session(page)
    for kind, at in [("touchStart", (3, 5)), ("touchMove", (3, 12)), ("touchMove", (3, 20)), ("touchEnd", None)]:
        x, y = box(page, at or (0, 0))
        points = [{"x": x, "y": y}] if at else []
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    finished(page)
    assert (seen(page, BOARD)[0, 3, 5:20] > 150).all()


def test_a_drawing_outlives_its_kernel(page, lab, folder, tmp_path):
    open_cells(page, lab, folder, CELL, "import os\n\nprint(os.getpid())")
    kernel = int(page.locator(".jp-OutputArea-output pre").last.inner_text())
    page.get_by_role("button", name="clear").click()
    page.get_by_label("model").select_option(label="plusplus-digits")
    page.wait_for_function("document.querySelector('.px').dataset.painting === 'rows'")
    os.kill(kernel, signal.SIGKILL)
    stroke(page, (3, 4), (3, 20))
    assert (seen(page, BOARD)[0, 3, 5:20] > 150).all()
    page.get_by_text("The kernel does not answer").wait_for()
    page.screenshot(path=tmp_path / "dead.png")
    button = page.locator(".jp-Dialog button")
    if button.count():  # JupyterLab says that it has started another kernel
        button.last.click()
    stroke(page, (6, 4), (6, 20))
    before = seen(page, BOARD)
    assert (before[0, 6, 5:20] > 150).all()

    execute(page, RUN_ALL)
    page.get_by_role("button", name="bring back").click()
    finished(page)
    assert torch.equal(seen(page, BOARD)[0, :9], before[0, :9]) and (before > 0).any()
    page.complaints.clear()  # JupyterLab's own, about the kernel


def test_what_newcomers_tried(page, lab, folder):
    """A completion keeps what was drawn, undo brings the line back, the space bar does what the tool says."""
    open_cells(page, lab, folder, CELL)
    page.get_by_role("button", name="clear").click()
    stroke(page, (4, 6), (4, 20))
    finished(page)
    page.get_by_role("button", name="take completion 1").click()
    finished(page)
    keep, line = page.locator(".px label", has_text="keep").locator("select"), page.get_by_label("line at row")
    keep.select_option(label="what I drew")
    finished(page)
    assert (seen(page, BOARD)[0, 4, 6:20] > 150).all()
    keep.select_option(label="rows above the line")
    page.get_by_role("button", name="keep down to here").click()
    page.mouse.click(*box(page, (19, 3)))
    finished(page)
    assert line.input_value() == "20"
    page.get_by_role("button", name="undo").click()
    finished(page)
    assert line.input_value() == "10"
    page.get_by_role("button", name="ask").click()
    page.locator(BOARD).press(" ")
    page.get_by_text("Your drawing. Row").wait_for()
    page.get_by_role("button", name="draw", exact=True).click()
    assert not page.locator(".px canvas.chart").is_visible()


def test_the_class_follows_the_picture(page, lab, folder):
    """Also to a model that is chosen later."""
    open_cells(page, lab, folder, CELL)
    number, kind = page.get_by_label("picture"), page.locator(".px label", has_text="class")
    for _ in range(3):
        page.get_by_role("button", name="next picture").click()
        finished(page)
    label = int(ph.load_images("digits").valid_labels[int(number.input_value())])
    assert label > 0 and not kind.is_visible()
    page.get_by_label("model").select_option(label="gated-digits")
    kind.wait_for()
    finished(page)
    assert kind.locator("select").input_value() == str(label)


def test_two_on_one_page_do_not_disturb_each_other(page, lab, folder):
    open_cells(page, lab, folder, CELL, CELL.splitlines()[-1])
    assert page.locator(BOARD).count() == 2
    page.get_by_role("button", name="clear").first.click()
    page.get_by_role("button", name="clear").last.click()
    page.get_by_label("seed").last.fill("7")
    page.get_by_label("seed").last.press("Enter")
    finished(page, 0)
    finished(page, 1)
    model, known = ph.load_pretrained("pixelcnn-digits"), torch.arange(28)[:, None].expand(28, 28) < 10
    blank = torch.zeros(1, 28, 28, dtype=torch.uint8)
    one, two = (ph.sample(model, 3, given=blank, known=known, seed=seed, progress=False) for seed in (0, 7))
    assert not torch.equal(one, two)
    boards = ".px figure canvas[role=application]"
    assert torch.equal(torch.stack([seen(page, boards, k) for k in range(6)]), torch.cat([one, two]))


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_it_fits_800_pixels_and_can_be_read_in_any_theme(page, lab, folder, tmp_path, theme):
    page.set_viewport_size({"width": 800, "height": 1100})
    open_cells(page, lab, folder, CELL)
    page.evaluate("theme => window.jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    page.wait_for_timeout(1500)
    page.locator(".px canvas[role=application]").nth(1).click(position={"x": 60, "y": 60})
    page.get_by_text("In blue what it could see").wait_for()
    page.screenshot(path=tmp_path / "narrow.png")
    inside = "(() => { const r = document.querySelector('.px'); return r.scrollWidth <= r.clientWidth; })()"
    assert page.evaluate(inside)
    assert page.locator(BOARD).bounding_box()["width"] > 250
    light = page.evaluate(
        """() => ['color', 'backgroundColor'].map(part => {
            const style = getComputedStyle(document.querySelector('.px select'));
            const [r, g, b] = style[part].match(/[\\d.]+/g).map(Number);
            return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
        })"""
    )
    assert abs(light[0] - light[1]) > 0.6 and (light[1] < 0.5) == ("Dark" in theme)
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.screenshot(path=tmp_path / "wide.png")


@pytest.mark.parametrize("name", ["mask_explorer", "reach_explorer"])
def test_every_control_of_an_explorer_has_a_name_and_it_fits_800_pixels(page, lab, folder, tmp_path, name):
    page.set_viewport_size({"width": 800, "height": 1000})
    open_cells(page, lab, folder, f"import pixelhelpers as ph\n\nph.widgets.{name}()", wait=".widget-html img")
    page.wait_for_timeout(500)
    page.screenshot(path=tmp_path / "explorer.png")
    nameless = """() => Array.from(document.querySelectorAll('.jp-OutputArea :is(.noUi-handle, .widget-toggle-button)'))
        .filter(part => !(part.getAttribute('aria-label') || part.closest('[role=group]')?.getAttribute('aria-label')))
        .length"""
    assert page.locator(".noUi-handle").count() > 1 and not page.evaluate(nameless)
    out = page.locator(".jp-OutputArea-output").last
    assert out.evaluate("box => box.scrollWidth <= box.clientWidth")
    picture = page.locator(".jp-OutputArea .widget-html img")
    before = picture.get_attribute("alt")
    page.locator(".noUi-handle").last.focus()
    assert page.evaluate(KEEPS_KEYS)
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"document.querySelector('.jp-OutputArea .widget-html img').alt !== {json.dumps(before)}")
    assert not page.evaluate(nameless)
    if name == "mask_explorer":
        group = page.get_by_role("group", name="first layer")
        assert group.get_by_role("button", pressed=True).inner_text() == "A"
        group.get_by_role("button", name="B").press("Enter")
        page.wait_for_function(
            "document.querySelector('.jp-OutputArea .widget-html img').alt.includes('first layer B')"
        )
        assert group.get_by_role("button", pressed=True).inner_text() == "B"


def test_who_painted_it_is_played_against_the_clock(page, lab, folder, tmp_path):
    page.set_viewport_size({"width": 800, "height": 1000})
    source = 'import pixelhelpers as ph\n\nph.widgets.who_painted_it(images=ph.load_images("digits"))'
    open_cells(page, lab, folder, source, wait=".px .note")
    page.get_by_role("button", name="deal").click()
    cards = page.locator(".px .cards button")
    cards.first.wait_for()
    assert cards.count() == 20
    for k in range(10):
        cards.nth(k).press(" ")
    assert page.get_by_role("button", pressed=True).count() == 10
    page.wait_for_timeout(1500)
    assert int(page.get_by_label("seconds left").inner_text()) < 60
    page.get_by_role("button", name="done").click()
    right = page.locator(".px .cards .right").count()
    assert right + page.locator(".px .cards .wrong").count() == 20
    assert page.locator(".px tbody tr").inner_text().split("\t")[:3] == ["pixelcnn-digits", "1", f"{right} of 20"]
    page.screenshot(path=tmp_path / "who.png")


def test_a_pixel_is_guessed_by_keyboard_and_both_pay_bits(page, lab, folder, tmp_path):
    source = 'import pixelhelpers as ph\n\nph.widgets.guess_the_pixel(images=ph.load_images("digits"))'
    open_cells(page, lab, folder, source, wait=".px .note")
    page.get_by_role("button", name="deal").press("Enter")
    page.get_by_text("Pixel 1 of 10").wait_for()
    page.get_by_label("level", exact=True).press("Home")
    for k in range(10):
        page.get_by_text(f"Pixel {k + 1} of 10").wait_for()
        page.get_by_role("button", name="guess").press("Enter")
        page.get_by_text("You pay").wait_for()
        if k == 0:
            page.screenshot(path=tmp_path / "guess.png")
        page.get_by_role("button", name="next").press("Enter")
    page.get_by_text("Bits per pixel: you").wait_for()
    page.screenshot(path=tmp_path / "guessed.png")
