"""A learner works in a copy of the notebooks that nothing overwrites, whatever learner and series do meanwhile."""

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import lab  # noqa: E402


def notebook(*sources: str, outputs: int = 0) -> str:
    cells = [
        {"cell_type": "code", "source": [source], "outputs": [{"text": str(number)} for number in range(outputs)]}
        for source in sources
    ]
    return json.dumps({"cells": cells, "nbformat": 4, "metadata": {}})


def sources(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]


@pytest.fixture
def folders(tmp_path):
    series = tmp_path / "notebooks"
    series.mkdir()
    for name in ("00_start", "01_masks", "02_blocks"):
        (series / f"{name}.ipynb").write_text(notebook(f"{name}, first edition"))
    (series / "claims.md").write_text("claims")
    return series, tmp_path / "my-notebooks"


def test_all_of_the_series_is_copied_once(folders):
    series, mine = folders
    assert len(lab.bring(*folders)) == 4 and lab.bring(*folders) == []
    assert sorted(path.name for path in mine.glob("[!.]*")) == sorted(path.name for path in series.iterdir())


def test_what_was_only_run_is_brought_up_to_date_and_what_was_written_stays(folders):
    series, mine = folders
    lab.bring(*folders)
    (mine / "00_start.ipynb").write_text(notebook("00_start, first edition", outputs=2))
    (mine / "01_masks.ipynb").write_text(notebook("01_masks, first edition", "my answer"))
    for name in ("00_start", "01_masks"):
        (series / f"{name}.ipynb").write_text(notebook(f"{name}, second edition"))
    assert len(lab.bring(*folders)) == 2
    assert sources(mine / "00_start.ipynb") == ["00_start, second edition"]
    assert sources(mine / "01_masks.ipynb") == ["01_masks, first edition", "my answer"]
    assert sources(mine / "01_masks.new.ipynb") == ["01_masks, second edition"]


def test_what_left_the_series_leaves_the_copy_unless_somebody_wrote_into_it(folders):
    series, mine = folders
    lab.bring(*folders)
    (mine / "01_masks.ipynb").write_text(notebook("my answer"))
    (mine / "of_my_own.ipynb").write_text(notebook("mine"))
    for name in ("00_start.ipynb", "01_masks.ipynb"):
        (series / name).unlink()
    lab.bring(*folders)
    assert not (mine / "00_start.ipynb").exists()
    assert sources(mine / "01_masks.ipynb") == ["my answer"] and (mine / "of_my_own.ipynb").exists()


@pytest.mark.parametrize("seed", range(20))
def test_no_answer_is_ever_lost_and_the_newest_edition_is_always_there(folders, seed):
    series, mine = folders
    rng = random.Random(seed)
    lab.bring(*folders)
    written = set()
    for step in range(60):
        files = sorted(mine.glob("*.ipynb"))
        match rng.choice(["write", "write", "run", "edition", "edition", "leave", "damage", "update", "update"]):
            case "write" if files:
                path = rng.choice(files)
                try:
                    cells = sources(path)
                except ValueError:
                    continue
                written.add(f"answer {step}")
                path.write_text(notebook(*cells, f"answer {step}"))
            case "run" if files:
                path = rng.choice(files)
                try:
                    path.write_text(notebook(*sources(path), outputs=step))
                except ValueError:
                    continue
            case "edition":
                path = series / f"0{rng.randrange(4)}_any.ipynb"
                path.write_text(notebook(f"edition {step}"))
            case "leave" if len(list(series.glob("*.ipynb"))) > 1:
                rng.choice(sorted(series.glob("*.ipynb"))).unlink()
            case "damage":
                (mine / lab.COPIED).write_text(rng.choice(["", "[1]", "{", "null", "7"]))
            case "update":
                lab.bring(*folders)
                assert lab.bring(*folders) == []
                everything = [source for path in mine.glob("*.ipynb") for source in sources(path)]
                assert written <= set(everything)
                for path in series.glob("*.ipynb"):
                    assert sources(path)[0] in everything
    assert len(written) > 3


def test_a_kill_while_copying_leaves_no_half_notebook(folders, monkeypatch):
    series, mine = folders

    def half(source, target):
        Path(target).write_text(Path(source).read_text()[:20])
        raise KeyboardInterrupt

    monkeypatch.setattr(lab.shutil, "copyfile", half)
    with pytest.raises(KeyboardInterrupt):
        lab.bring(*folders)
    monkeypatch.undo()
    assert not list(mine.glob("*.ipynb"))
    lab.bring(*folders)
    assert all(sources(mine / path.name) == sources(path) for path in series.glob("*.ipynb"))


# With git


def git(folder: Path, *words: str) -> str:
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    result = subprocess.run(
        ["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True, env=os.environ | settings
    )
    return result.stdout


@pytest.fixture
def clone(tmp_path):
    """A series that goes on, and a learner's clone of it."""
    if not shutil.which("git"):
        pytest.skip("no git here")
    source = tmp_path / "source"
    (source / "notebooks").mkdir(parents=True)
    (source / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "lab.py", source / "tools")
    shutil.copy(ROOT / ".gitignore", source)
    (source / "notebooks" / "00_start_here.ipynb").write_text(notebook("first edition"))
    git(source, "init", "-q")
    git(source, "add", ".")
    git(source, "commit", "-qm", "first")
    git(tmp_path, "clone", "-q", str(source), "clone")
    return source, tmp_path / "clone"


def run_lab(clone: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, clone / "tools" / "lab.py", *words], capture_output=True, text=True, encoding="utf-8"
    )


def publish(source: Path, edition: str) -> None:
    (source / "notebooks" / "00_start_here.ipynb").write_text(notebook(edition))
    git(source, "commit", "-qam", edition)


def test_update_brings_the_series_and_keeps_solved_notebooks(clone):
    source, here = clone
    assert run_lab(here, "--copy").returncode == 0
    (here / "my-notebooks" / "00_start_here.ipynb").write_text(notebook("first edition", "my answer"))
    assert git(here, "status", "--porcelain") == ""  # git sees nothing of it
    publish(source, "second edition")
    result = run_lab(here, "--update")
    assert result.returncode == 0, result.stderr
    assert sources(here / "my-notebooks" / "00_start_here.ipynb") == ["first edition", "my answer"]
    assert sources(here / "my-notebooks" / "00_start_here.new.ipynb") == ["second edition"]
    assert "holds what you wrote" in result.stdout


def test_update_keeps_what_was_written_into_the_series_itself(clone):
    source, here = clone
    (here / "notebooks" / "00_start_here.ipynb").write_text(notebook("first edition", "my answer"))
    publish(source, "second edition")
    result = run_lab(here, "--update")
    assert result.returncode and "git checkout HEAD -- notebooks" in result.stderr
    assert sources(here / "my-notebooks" / "00_start_here.mine.ipynb") == ["first edition", "my answer"]
    git(here, "checkout", "HEAD", "--", "notebooks")
    assert run_lab(here, "--update").returncode == 0
    assert sources(here / "my-notebooks" / "00_start_here.ipynb") == ["second edition"]
    assert sources(here / "my-notebooks" / "00_start_here.mine.ipynb") == ["first edition", "my answer"]


def test_update_without_git_or_its_source_says_what_to_do(clone):
    source, here = clone
    shutil.move(source, source.with_name("gone"))
    result = run_lab(here, "--update")
    assert result.returncode and "could not fetch" in result.stderr and "Traceback" not in result.stderr
    shutil.rmtree(here / ".git")
    result = run_lab(here, "--update")
    assert result.returncode and "download the series anew" in result.stderr


# JupyterLab


def test_lab_opens_the_copy_on_localhost_with_its_token_our_extension_and_without_news(monkeypatch, folders):
    started = {}

    def call(command, cwd, env):
        started.update(command=command, env=env)
        return 0

    monkeypatch.setattr(lab.subprocess, "call", call)
    monkeypatch.setattr(lab, "bring", lambda: [])
    with pytest.raises(SystemExit):
        lab.main(["--port", "9000"])
    command = " ".join(started["command"])
    assert not re.search(r"token|password|--ip|ServerApp\.ip|allow_origin", command) and command.endswith("--port 9000")
    start = re.search(r"default_url=/lab/tree/my-notebooks/(\S+)", command)[1]
    assert (ROOT / "notebooks" / start).exists()
    code = "from jupyter_core.paths import jupyter_path\nfrom jupyterlab_server.config import get_page_config\n"
    code += "print(get_page_config(jupyter_path('labextensions')))"
    env = started["env"]
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True).stdout
    assert "@jupyterlab/apputils-extension:announcements" in said and "'name': 'links-arrive'" in said


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_lab_starts_it():
    told = subprocess.run(["make", "-n", "lab", "ARGS=--port 9000"], cwd=ROOT, capture_output=True, text=True).stdout
    assert "tools/lab.py --port 9000" in told


@pytest.mark.skipif(os.name == "nt", reason="Binder runs Linux")
@pytest.mark.parametrize("before", ["", "/elsewhere"])
def test_binder_starts_it_with_what_we_set_as_well(monkeypatch, before):
    for name in ("JUPYTER_CONFIG_PATH", "JUPYTER_PATH"):
        monkeypatch.setenv(name, before)
    said = subprocess.run([ROOT / "start", "env"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in ("JUPYTER_CONFIG_PATH", "JUPYTER_PATH"):
        assert f"{name}={lab.environment()[name]}" in said.splitlines()
