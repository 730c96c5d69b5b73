"""A JupyterLab as `make lab` starts it, and a real browser; without one of them the tests skip and say why."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.browser.driver import SECOND, TOKEN
from tools.lab import environment
from tools.setup_browser import chromium, missing

ROOT = Path(__file__).resolve().parents[2]
QUIET = (
    "--no-sandbox --disable-gpu --disable-dev-shm-usage --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
SHUT_DOWN = "() => window.jupyterapp.serviceManager.sessions.shutdownAll()"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def lab(tmp_path_factory, folder):
    """The address of a JupyterLab on `folder`."""
    if reason := missing():
        pytest.skip(reason)
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
            has_touch=True,
            viewport={"width": 1280, "height": 1000},
        )
        context.set_default_timeout(120 * SECOND)
        yield context
        context.close()


@pytest.fixture
def page(browser, lab, tmp_path):
    """A tab of its own. No error may reach the browser's console: they are kept in `page.complaints`.

    Pictures of other servers may be out of reach.
    """
    page = browser.new_page()
    page.complaints = complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" and ours(line, lab) else None)
    yield page
    page.screenshot(path=tmp_path / "last.png")
    page.evaluate(SHUT_DOWN)
    page.close()
    assert not complaints


def ours(line, lab: str) -> bool:
    address = line.location.get("url", "")
    return not address or address.startswith(lab)
