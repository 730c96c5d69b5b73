"""The notebooks' other home: what `notebooks/conftest.py` and `tests/elsewhere.py` promise of it, tried.

That every notebook runs there is nbval's part: `pytest notebooks`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import pixelhelpers as ph
from tests import elsewhere

ROOT = elsewhere.ROOT


QUESTIONS = """
names = {name for name in globals() if not name.startswith("_")} - {"In", "Out", "get_ipython", "exit", "quit"}
import importlib.util, json, os, sys
import IPython, ipywidgets
import pixelhelpers as ph

def pip(line):
    try:
        get_ipython().run_line_magic("pip", line)
        return "installed"
    except ValueError as error:
        return str(error)

def redraws(make):
    controls, picture = make().children
    for control in controls.children:
        before = picture.value
        if hasattr(control, "options"):
            control.value = next(option for option in control.options if option != control.value)
        else:
            control.value = control.max if control.value < control.max else control.min
        yield picture.value != before and picture.value.startswith("<img alt=")

def places(name):
    spec = importlib.util.find_spec(name)
    return list(spec.submodule_search_locations or []) if spec else []

answers = {
    "names": sorted(names),
    "package": ph.__file__,
    "record": str(ph.records.record_file("compare.json")),
    "records": ph.list_records(),
    "digits": len(ph.load_images("digits").train),
    "folder": os.getcwd(),
    "in it": os.listdir(),
    "modules": [path for name in ("tools", "benchmarks", "tests") for path in places(name)],
    "colab": "google.colab" in sys.modules and importlib.util.find_spec("google.colab").name,
    "series": pip("install -q git+https://github.com/a/b@main"),
    "other": pip("install -q other"),
    "versions": [ipywidgets.__version__, IPython.__version__],
    "redraws": [answer for make in (ph.widgets.mask_explorer, ph.widgets.reach_explorer) for answer in redraws(make)],
}
print("\\n" + json.dumps(answers))  # IPython may have begun the line with a title
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    elsewhere.install(folder)
    return folder


@pytest.fixture(scope="module")
def answers(folder):
    """What a process there says that is started, as nbval starts its kernels, where the notebooks lie."""
    result = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "-c", QUESTIONS],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT / "notebooks",
        env=os.environ | elsewhere.environment(folder),
    )
    assert not result.returncode and not result.stderr, result.stdout + result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_only_the_installed_package_is_to_be_found_there(folder, answers):
    installed = folder / "pixelhelpers"
    assert Path(answers["package"]) == installed / "__init__.py"
    assert Path(answers["record"]) == installed / "records" / "compare.json"
    assert not [path for path in answers["modules"] if Path(path).parent == ROOT]
    assert not answers["in it"] and not answers["names"]
    assert not Path(answers["folder"]).resolve().is_relative_to(ROOT)


def test_the_installed_package_has_all_records_and_the_digits(answers):
    assert answers["records"] == ph.list_records() and len(answers["records"]) > 5
    assert answers["digits"] == len(ph.load_images("digits").train)


def test_it_is_taken_for_colab_whose_set_up_cell_may_install_the_series_and_nothing_else(answers):
    assert answers["colab"] == "google.colab"
    assert answers["series"] == "installed" and "install -q other" in answers["other"]


def test_explorers_answer_with_the_ipywidgets_of_colab(folder, answers):
    if not (folder / "ipywidgets").exists():
        pytest.skip("pip could not have Colab's ipywidgets here")
    assert [version[:2] for version in answers["versions"]] == ["7.", "7."]
    assert len(answers["redraws"]) >= 6 and all(answers["redraws"])


# What a notebook must not do there

PICTURE = """
import base64
from IPython.display import HTML, display
def show():
    display(HTML('<img alt="a dot" src="data:image/png;base64,AA==">'))
"""
CELLS = {
    "makes a picture": ("show()", 1),
    "has a record": ('import pixelhelpers as ph\nph.record("compare")["models"].keys()\nshow()', 1),
    "shows more than is stored": ("show()\nshow()", 1),
    "loses one of two": ("show()", 2),
    "looks into the checkout": ("open('../benchmarks/compare.json').read()", 0),
    "skips what is not there": ("import pathlib\nif pathlib.Path('00.ipynb').exists():\n    show()", 1),
    "warns": ("import warnings\nwarnings.warn('old')", 0),
}


def test_a_lost_picture_a_warning_and_a_look_into_the_checkout_fail(tmp_path):
    cells = [nbformat.v4.new_code_cell(PICTURE, execution_count=1)]
    picture = nbformat.v4.new_output("display_data", {"text/html": '<img alt="a dot" src="…">'})
    for source, stored in CELLS.values():
        cells.append(nbformat.v4.new_code_cell(source, execution_count=1, outputs=[picture] * stored))
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "notebooks" / "00.ipynb")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "compare.json").write_text("{}")
    shutil.copy(ROOT / "notebooks" / "conftest.py", tmp_path / "notebooks")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)  # how nbval is asked
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:xdist", "notebooks/00.ipynb"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    ends = dict(re.findall(r"^(?:FAILED|PASSED) notebooks/00.ipynb::Cell (\d+)(.*)", result.stdout, re.MULTILINE))
    assert len(ends) == len(cells), result.stdout
    failed = [name for k, name in enumerate(CELLS, 1) if f"FAILED notebooks/00.ipynb::Cell {k}" in result.stdout]
    assert failed == ["loses one of two", "looks into the checkout", "skips what is not there", "warns"], result.stdout
