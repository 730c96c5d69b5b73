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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    elsewhere.install(folder)
    return folder


def tell(folder: Path, code: str):
    """What a cell prints there, as JSON. The process is started where the notebooks lie, as nbval does."""
    result = subprocess.run(
        [sys.executable, "-m", "IPython", "--no-banner", "-c", f"import json\n{code}"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT / "notebooks",
        env=os.environ | elsewhere.environment(folder),
    )
    assert not result.returncode and not result.stderr, result.stdout + result.stderr
    return json.loads(result.stdout.splitlines()[-1])


WHERE = """
import importlib.util, os, pathlib
import google.colab
import pixelhelpers as ph
others = [name for name in ("tools", "benchmarks", "tests.elsewhere") if importlib.util.find_spec(name.split(".")[0])]
print(json.dumps([ph.__file__, str(ph.record_file("compare.json")), os.getcwd(), others, ph.list_records()]))
"""


def test_only_the_installed_package_is_to_be_found_there(folder):
    package, record, cwd, others, records = tell(folder, WHERE)
    installed = folder / "pixelhelpers"
    assert Path(package) == installed / "__init__.py" and Path(record) == installed / "records" / "compare.json"
    assert records == ph.list_records()  # all that the checkout has
    assert not Path(cwd).resolve().is_relative_to(ROOT) and not list(Path(cwd).iterdir())
    assert not others, "modules of the checkout are importable"


def test_it_is_taken_for_colab_whose_set_up_cell_may_install_the_series_and_nothing_else(folder):
    code = """
import sys, importlib.util
answers = ["google.colab" in sys.modules, importlib.util.find_spec("google.colab").name]
for line in ("install -q git+https://github.com/a/b@main", "install -q other"):
    try:
        get_ipython().run_line_magic("pip", line)
        answers.append("installed")
    except ValueError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""
    there, name, ours, other = tell(folder, code)
    assert there and name == "google.colab" and ours == "installed" and "install -q other" in other


def test_explorers_answer_with_the_ipywidgets_of_colab(folder):
    if not (folder / "ipywidgets").exists():
        pytest.skip("pip could not have Colab's ipywidgets here")
    code = """
import ipywidgets, IPython, pixelhelpers as ph
answers = [ipywidgets.__version__, IPython.__version__]
for make in (ph.widgets.mask_explorer, ph.widgets.reach_explorer):
    box = make()
    controls, picture = box.children
    for control in controls.children:
        before = picture.value
        if hasattr(control, "options"):
            control.value = next(option for option in control.options if option != control.value)
        else:
            control.value = control.max if control.value < control.max else control.min
        answers.append(picture.value != before and picture.value.startswith("<img alt="))
print(json.dumps(answers))
"""
    widgets, ipython, *redrawn = tell(folder, code)
    assert widgets.startswith("7.") and ipython.startswith("7.")
    assert len(redrawn) >= 6 and all(redrawn)


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
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "00.ipynb")
    shutil.copy(ROOT / "notebooks" / "conftest.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)  # how nbval is asked
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:xdist", "00.ipynb"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    ends = dict(re.findall(r"^(?:FAILED|PASSED) 00.ipynb::Cell (\d+)(.*)", result.stdout, re.M))
    assert len(ends) == len(CELLS) + 1, result.stdout
    failed = [
        name
        for name, number in zip(CELLS, range(1, 99), strict=False)
        if f"FAILED 00.ipynb::Cell {number}" in result.stdout
    ]
    assert failed == list(CELLS)[3:], result.stdout
