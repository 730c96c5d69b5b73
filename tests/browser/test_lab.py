"""What a newcomer sees: JupyterLab in a real browser, Run All, pictures, a slider that moves.

Needs `pip install -e ".[browser]"` and Chromium (Debian: apt install chromium fonts-dejavu-core); skips
with a reason where one of them is missing. Screenshots stay in the folder that pytest's --basetemp names.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TOKEN = "newcomer"
QUIET = (
    "--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
READY = """async () => {
    const widget = window.jupyterapp?.shell.currentWidget, session = widget?.sessionContext;
    if (!session) return false;
    await session.ready;
    return session.session?.kernel?.connectionStatus === 'connected' && session.session.kernel.status === 'idle';
}"""
# The page keeps the promise: one that only the test waits for may be collected while cells run.
RUN_ALL = """() => {
    window.finished = undefined;
    window.run = window.jupyterapp.commands.execute('notebook:run-all-cells');
    window.run.then(success => window.finished = Boolean(success), () => window.finished = false);
}"""
OUTPUTS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter(cell => cell.model.type === 'code')
    .map(cell => ({
        count: cell.model.executionCount,
        source: cell.model.sharedModel.getSource(),
        outputs: cell.model.outputs.toJSON(),
    }))"""
PICTURES = """() => Array.from(document.querySelectorAll('.jp-OutputArea img'))
    .filter(image => image.complete && image.naturalWidth > 20).length"""

WITHOUT_TEXT = """() => Array.from(document.querySelectorAll('.jp-OutputArea img'))
    .filter(image => image.naturalWidth > 20 && !image.alt.trim()).length"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab on a copy of the notebooks, as `make lab` starts it."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -e '.[browser]'")
    home = tmp_path_factory.mktemp("home")
    folder = home / "notebooks"
    shutil.copytree(ROOT / "notebooks", folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {
        "HOME": str(home),
        "JUPYTER_TOKEN": TOKEN,
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_CONFIG_PATH": str(ROOT / "tools" / "jupyter"),
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


@pytest.fixture
def page(lab, tmp_path):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=CHROMIUM,
            headless=True,
            args=QUIET,
            viewport={"width": 1280, "height": 1000},
        )
        page = context.pages[0]
        page.set_default_timeout(120_000)
        yield page
        page.screenshot(path=tmp_path / "last.png")
        context.close()


def open_notebook(page, lab, name: str) -> None:
    page.goto(f"{lab}/lab/tree/{name}?token={TOKEN}&reset")
    page.wait_for_function("window.jupyterapp?.shell.currentWidget?.sessionContext !== undefined")
    for _ in range(240):
        if page.evaluate(READY):
            return
        time.sleep(0.5)
    raise AssertionError("the kernel did not start")


def run_all(page) -> list[dict]:
    page.evaluate(RUN_ALL)
    page.wait_for_function("window.finished !== undefined", timeout=180_000)
    assert page.evaluate("window.finished"), "a cell failed"
    cells = [cell for cell in page.evaluate(OUTPUTS) if cell["source"].strip()]
    assert all(cell["count"] for cell in cells)
    errors = [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    assert not errors, errors
    return cells


def complaints(page) -> list[str]:
    """The error lines of the log console, the only place where a widget's failing callback shows up."""
    page.evaluate("() => { window.jupyterapp.commands.execute('logconsole:open'); }")
    page.wait_for_timeout(1000)
    lines = page.locator(".jp-LogConsolePanel").inner_text().splitlines()
    return [line for line in lines if "Error" in line or "Traceback" in line]


def test_the_first_notebook_runs_to_its_end_and_shows_pictures(page, lab, tmp_path):
    open_notebook(page, lab, "00_start_here.ipynb")
    cells = run_all(page)
    wanted = sum("<img" in output.get("data", {}).get("text/html", "") for cell in cells for output in cell["outputs"])
    assert wanted >= 2
    most = 0
    for k in range(page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets.length")):
        # Pictures far down are drawn when they come into view.
        page.evaluate(f"window.jupyterapp.shell.currentWidget.content.scrollToItem({k}, 'center')")
        page.wait_for_timeout(200)
        page.screenshot(path=tmp_path / f"cell_{k:02}.png")
        most = max(most, page.evaluate(PICTURES))
        assert not page.evaluate(WITHOUT_TEXT), "a picture has no text for those who cannot see it"
    assert most >= 1, "no picture appeared"
    assert not complaints(page)


def test_a_slider_redraws_its_picture(page, lab, tmp_path):
    open_notebook(page, lab, "01_masked_convolution.ipynb")
    run_all(page)
    slider = page.locator(".jp-OutputArea .noUi-handle").first
    slider.scroll_into_view_if_needed()
    picture = page.locator(".jp-OutputArea .widget-html img").first
    before, text = picture.get_attribute("src"), picture.get_attribute("alt")
    slider.focus()
    page.keyboard.press("ArrowRight")
    for _ in range(50):
        if picture.get_attribute("src") != before:
            break
        page.wait_for_timeout(100)
    page.screenshot(path=tmp_path / "slider.png")
    assert picture.get_attribute("src") != before
    assert picture.get_attribute("alt") != text and "kernel 3" in text
    assert not complaints(page)
