"""What a newcomer sees: every notebook in JupyterLab in a real browser, run to its end, its controls moved by hand.

`make browser` installs what it needs and runs this; without Chromium or playwright it skips, and says what is missing.
nbval runs the notebooks, too, but has no page: pictures without a text, widgets, links and the browser's errors show
only here. Screenshots stay in the folder that pytest's --basetemp names.
"""

import re
import shutil
import time
from pathlib import Path

import nbformat
import pytest

from tests.browser.driver import SECOND, TOKEN, execute, open_notebook, wait_until_ready

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"
EXPLORER = re.compile(r"^ph\.widgets\.\w*explorer\(", re.MULTILINE)
CELLS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === 'code' && cell.model.sharedModel.getSource().trim())
    .map(cell => ({count: cell.model.executionCount, outputs: cell.model.outputs.toJSON()}))"""
PICTURES = """() => Array.from(document.querySelectorAll('.jp-OutputArea img'))
    .filter(picture => picture.complete && picture.naturalWidth > 20).map(picture => picture.alt.trim())"""
# How far the section stands below the notebook's upper edge.
BELOW = """name => {
    const notebook = window.jupyterapp.shell.currentWidget.content.node;
    const section = notebook.querySelector(`[data-jupyter-id="${CSS.escape(name)}"], [id="${CSS.escape(name)}"]`);
    return section && section.getBoundingClientRect().top - notebook.getBoundingClientRect().top;
}"""
IDLE = "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"


@pytest.fixture(autouse=True)
def fresh(folder):
    """Notebooks that nobody has run yet."""
    shutil.copytree(ROOT / "notebooks", folder, dirs_exist_ok=True)


def sources(name: str) -> list[str]:
    return [cell.source for cell in nbformat.read(ROOT / "notebooks" / name, as_version=4).cells]


def run_all(page) -> list[dict]:
    """Runs all cells; gives their outputs."""
    execute(page, "notebook:run-all-cells")
    cells = page.evaluate(CELLS)
    assert cells and all(cell["count"] for cell in cells)
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    return outputs


def logged_errors(page) -> list[str]:
    """The error lines of the log console, the only place where a widget's failing callback shows up."""
    page.evaluate("() => { window.jupyterapp.commands.execute('logconsole:open'); }")
    page.wait_for_timeout(SECOND)
    lines = page.locator(".jp-LogConsolePanel").inner_text().splitlines()
    return [line for line in lines if "Error" in line or "Traceback" in line]


def redrawn(page, picture, before: str) -> str:
    """Waits until a picture is another one, and the last of those that a moving slider asked for."""
    for _ in range(300):
        now = picture.get_attribute("src")
        time.sleep(0.3)
        if now != before and now == picture.get_attribute("src") and page.evaluate(IDLE):
            return now
    raise AssertionError("the picture stays as it was, or does not come to rest")


def move_by_keyboard(control) -> None:
    handle = control.locator(".noUi-handle")
    if handle.count():
        at_its_end = handle.get_attribute("aria-valuenow") == handle.get_attribute("aria-valuemax")
        handle.press("ArrowLeft" if at_its_end else "ArrowRight")
    else:
        control.locator("button:not(.mod-active)").first.press("Enter")


def move_by_mouse(page, control) -> None:
    handle = control.locator(".noUi-handle")
    if handle.count():
        left, right = (float(handle.get_attribute(f"aria-value{end}")) for end in ("min", "max"))
        middle = float(handle.get_attribute("aria-valuenow")) > (left + right) / 2
        bar = control.locator(".noUi-base").bounding_box()
        page.mouse.move(*centre(handle.bounding_box()))
        page.mouse.down()
        page.mouse.move(bar["x"] + bar["width"] * (0.2 if middle else 0.8), bar["y"] + bar["height"] / 2, steps=4)
        page.mouse.up()
    else:
        control.locator("button:not(.mod-active)").first.click()


def centre(box: dict) -> tuple[float, float]:
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def shown(page, count: int) -> list[str]:
    """The texts of all pictures in the outputs, once there are so many."""
    for _ in range(100):
        texts = page.evaluate(PICTURES)
        if len(texts) >= count:
            return texts
        time.sleep(0.1)
    raise AssertionError(f"{len(texts)} pictures are on the page, {count} are in the outputs")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_runs_to_its_end_and_every_control_moves_its_picture(page, lab, tmp_path, name):
    open_notebook(page, lab, name)
    outputs = [output.get("data", {}) for output in run_all(page)]
    html = [data.get("text/html", "") for data in outputs if WIDGET not in data]
    made = sum(map(bool, map(EXPLORER.search, sources(name))))
    texts = shown(page, sum("".join(text).count("<img") for text in html) + made)
    assert texts and all(texts), "a picture has no text for those who cannot see it"
    explorers = page.locator(".jp-OutputArea .widget-vbox:has(.widget-html img)")
    assert explorers.count() == made
    for explorer in explorers.all():
        picture = explorer.locator(".widget-html img")
        controls = explorer.locator(".widget-hbox").first.locator(":scope > *").all()
        assert controls
        for control in controls:
            control.scroll_into_view_if_needed()
            source, text = picture.get_attribute("src"), picture.get_attribute("alt")
            move_by_keyboard(control)
            source = redrawn(page, picture, source)
            assert picture.get_attribute("alt") != text
            move_by_mouse(page, control)
            redrawn(page, picture, source)
        page.screenshot(path=tmp_path / "explorer.png")
    assert not logged_errors(page)


def test_an_exercise_is_solved_by_typing(page, lab):
    name, check = "04_sampling.ipynb", "ph.exercises.check_temperature(with_temperature)"
    cells = sources(name)
    prose = cells[next(k for k, source in enumerate(cells) if check in source) + 1]
    solution = re.search(r"<details>.*?^```python\n(.*?)^```", prose, re.DOTALL | re.MULTILINE)[1]
    open_notebook(page, lab, name)
    page.locator(".jp-CodeCell").first.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")  # the set-up
    cell = page.locator(".jp-CodeCell").filter(has_text=check)
    cell.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    said = cell.locator(".jp-OutputArea-output")
    said.filter(has_text="Not solved yet").wait_for()
    cell.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.insert_text(f"{solution}\n\n{check}")
    page.keyboard.press("Shift+Enter")
    said.filter(has_text="✓").wait_for()


@pytest.mark.parametrize(
    "source, target, section",
    [
        ("07_overfitting.ipynb", "04_sampling.ipynb", "5.-The-most-probable-image-is-not-a-good-one"),
        ("12_parallel_generation.ipynb", "08_gated_pixelcnn.ipynb", "8.-Which-class-is-it?-Bayes'-rule"),
        ("claims.md", "02_residual_blocks.ipynb", "7.-Receptive-field-against-depth"),
    ],
)
def test_a_link_to_a_section_of_a_closed_notebook_arrives_there(page, lab, source, target, section):
    page.goto(f"{lab}/lab/tree/{source}?token={TOKEN}&reset")
    page.locator(f'.jp-RenderedMarkdown a[href$="#{section}"]').first.click()
    wait_until_ready(page, target)
    for _ in range(100):
        time.sleep(0.3)
        below = page.evaluate(BELOW, section)
        if below is not None and 0 <= below < 60:
            break
    page.wait_for_timeout(2 * SECOND)
    assert 0 <= page.evaluate(BELOW, section) < 60
    page.mouse.wheel(0, 3000)  # from then on the notebook is the reader's
    page.wait_for_timeout(2 * SECOND)
    assert page.evaluate(BELOW, section) < -1000
