"""Chromium and playwright are looked for, installed where they are missing, and what cannot be had is said."""

from pathlib import Path

import pytest

from tools import setup_browser

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def bare(monkeypatch):
    """A machine with neither, and nothing that can be installed; gives the commands that were tried."""
    tried = []
    monkeypatch.setattr(setup_browser, "find_spec", lambda name: None)
    monkeypatch.setattr(setup_browser, "chromium", lambda: None)
    monkeypatch.setattr(setup_browser, "run", lambda *command: tried.append(" ".join(command)))
    return tried


def test_what_is_missing_is_named(bare, monkeypatch):
    assert "playwright is not installed" in setup_browser.missing()
    monkeypatch.setattr(setup_browser, "find_spec", lambda name: "there")
    assert "no Chromium here" in setup_browser.missing()
    monkeypatch.setattr(setup_browser, "chromium", lambda: "/usr/bin/chromium")
    assert setup_browser.missing() is None


def test_a_set_up_that_fails_says_so(bare, monkeypatch):
    with pytest.raises(SystemExit, match="pip could not install playwright"):
        setup_browser.main()
    monkeypatch.setattr(setup_browser, "find_spec", lambda name: "there")
    with pytest.raises(SystemExit, match="no Chromium that starts"):
        setup_browser.main()
    assert "playwright install" in bare[-1]


def test_a_browser_that_is_there_is_left_alone(bare, monkeypatch):
    monkeypatch.setattr(setup_browser, "find_spec", lambda name: "there")
    monkeypatch.setattr(setup_browser, "chromium", lambda: "/usr/bin/chromium")
    with pytest.raises(SystemExit, match="no Chromium that starts"):  # it is asked for its version, nothing else
        setup_browser.main()
    assert bare == ["/usr/bin/chromium --version"]


@pytest.mark.parametrize(
    "root, debian, manager", [(0, True, "apt-get"), (0, False, "playwright"), (1, True, "playwright")]
)
def test_the_package_manager_is_asked_where_it_may_be(bare, monkeypatch, tmp_path, root, debian, manager):
    monkeypatch.setattr(setup_browser.os, "geteuid", lambda: root, raising=False)
    monkeypatch.setattr(setup_browser.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(setup_browser, "DEBIAN", ROOT if debian else tmp_path / "nowhere")
    setup_browser.install_chromium()
    assert manager in bare[0]
    assert "playwright install" in bare[-1]  # also where the package manager could not


def test_a_command_that_is_not_there_is_no_success(capfd):
    assert not setup_browser.run("no-such-command-here")
    assert "browser: no-such-command-here: " in capfd.readouterr().out


def test_continuous_integration_runs_the_browser():
    assert "make browser" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "make browser" in (ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8")
