"""What a newcomer sees: every notebook in JupyterLab in a real browser, run to its end, its controls moved by hand.

`make browser` installs what it needs and runs this; without Chromium or playwright it skips, and says what is missing.
nbval runs the notebooks, too, but has no page: pictures without a text, widgets, links and the browser's errors show
only here. Screenshots stay in the folder that pytest's --basetemp names.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from tools.lab import environment
from tools.setup_browser import chromium, missing

MISSING = missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=str(MISSING))

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"
EXPLORER = re.compile(r"^ph\.widgets\.\w*explorer\(", re.MULTILINE)
TOKEN = "newcomer"
SECOND = 1000  # playwright counts milliseconds
QUIET = (
    "--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
# Before there is a session, the kernel's indicator says "idle", too.
READY = """async path => {
    const widget = window.jupyterapp?.shell.currentWidget, session = widget?.sessionContext;
    if (!session || widget.context.path !== path) return false;
    await session.ready;
    return session.session?.kernel?.connectionStatus === 'connected' && session.session.kernel.status === 'idle'
        && widget.content.widgets.every(cell => !cell.isPlaceholder());
}"""
# The page keeps the promise: one that only the test waits for may be collected while cells run.
EXECUTE = """command => {
    window.finished = undefined;
    window.run = window.jupyterapp.commands.execute(command);
    window.run.then(success => window.finished = Boolean(success), () => window.finished = false);
}"""
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
SHUT_DOWN = "() => window.jupyterapp.serviceManager.sessions.shutdownAll()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def lab(tmp_path_factory, folder):
    """A JupyterLab on a copy of the notebooks, as `make lab` starts it."""
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = environment() | {
        "HOME": str(home),
        "JUPYTER_TOKEN": TOKEN,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", "--LabApp.expose_app_in_browser=True"]
    command += ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
        try:
            for _ in range(120):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token={TOKEN}", timeout=5)
                    break
                except OSError:
                    assert server.poll() is None, (home / "lab.log").read_text()
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"),
            executable_path=chromium(),
            headless=True,
            args=QUIET,
            viewport={"width": 1280, "height": 1000},
        )
        context.set_default_timeout(120 * SECOND)
        yield context
        context.close()


@pytest.fixture
def page(browser, lab, folder, tmp_path):
    """A tab of its own, on notebooks that nobody has run yet. No error may reach the browser's console.

    Pictures of other servers may be out of reach.
    """
    shutil.copytree(ROOT / "notebooks", folder, dirs_exist_ok=True)
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" and ours(line, lab) else None)
    yield page
    page.screenshot(path=tmp_path / "last.png")
    page.evaluate(SHUT_DOWN)
    page.close()
    assert not errors


def ours(line, lab: str) -> bool:
    address = line.location.get("url", "")
    return not address or address.startswith(lab)


def sources(name: str) -> list[str]:
    return [cell.source for cell in nbformat.read(ROOT / "notebooks" / name, as_version=4).cells]


def open_notebook(page, lab, name: str) -> None:
    page.goto(f"{lab}/lab/tree/{name}?token={TOKEN}&reset")
    wait_until_ready(page, name)


def wait_until_ready(page, name: str) -> None:
    for _ in range(240):
        if page.evaluate(READY, name):
            return
        time.sleep(0.5)
    raise AssertionError("the kernel did not start, or not all cells were drawn")


def execute(page, command: str) -> None:
    page.evaluate(EXECUTE, command)
    page.wait_for_function("window.finished !== undefined", timeout=600 * SECOND)
    assert page.evaluate("window.finished"), "a cell failed"


def run_all(page) -> list[dict]:
    """Runs all cells; gives their outputs."""
    execute(page, "notebook:run-all-cells")
    cells = page.evaluate(CELLS)
    assert cells and all(cell["count"] for cell in cells)
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    return outputs


def complaints(page) -> list[str]:
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
    assert not complaints(page)


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
