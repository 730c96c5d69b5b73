"""What must hold of every notebook: it is whole, fresh, small, and built by the pattern.

CONTRIBUTING.md describes the pattern. That the notebooks run is nbval's part: `pytest notebooks`.
"""

import base64
import json
import re
from pathlib import Path

import nbformat
import pytest

from tools.notebooks import source_hash
from tools.reading_time import shown

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REPOSITORY = re.search(
    r'^Repository = "https://github.com/([^"]+)"',
    (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
    re.MULTILINE,
)[1]
SET_UP = f"""\
import sys
if "google.colab" in sys.modules:  # Colab has torch; the package and its weights come from GitHub
    %pip install -q git+https://github.com/{REPOSITORY}
"""


PICTURE = re.compile(r'<img alt="([^"]*)" style="max-width: 100%" src="data:image/\w+;base64,([^"]+)">')


class Notebook:
    def __init__(self, path: Path):
        self.path = path
        self.json = json.loads(path.read_text(encoding="utf-8"))
        self.nodes = nbformat.read(path, as_version=nbformat.NO_CONVERT)
        self.code = [cell for cell in self.nodes.cells if cell.cell_type == "code"]
        self.prose = "\n\n".join(c.source for c in self.nodes.cells if c.cell_type == "markdown")
        self.outputs = [output for cell in self.code for output in cell.outputs]
        self.pictures = [
            match.groups()
            for output in self.outputs
            for match in PICTURE.finditer(output.get("data", {}).get("text/html", ""))
        ]


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request):
    return Notebook(request.param)


# Whole and fresh


def test_is_valid_and_runs_on_any_machines_python3(notebook):
    nbformat.validate(notebook.json)
    ids = [cell["id"] for cell in notebook.json["cells"]]
    assert len(set(ids)) == len(ids), "two cells have the same id"
    assert notebook.nodes.metadata.kernelspec.name == "python3"


def test_was_run_from_top_to_bottom(notebook):
    counts = [cell.execution_count for cell in notebook.code if cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1))


def test_outputs_belong_to_the_code(notebook):
    recorded = notebook.nodes.metadata.get("pixelhelpers", {}).get("source_hash")
    number = notebook.path.name[:2]
    assert recorded == source_hash(notebook.json), f"stale outputs: make notebooks NB={number}"


def test_has_no_errors_and_no_warnings(notebook):
    for output in notebook.outputs:
        assert output.output_type != "error", output.evalue
        assert output.get("name") != "stderr", output.text


# Small enough to read, to run in class and to keep in git


def test_took_at_most_90_seconds_and_1500_megabytes(notebook):
    record = notebook.nodes.metadata.pixelhelpers
    assert record.seconds < 90 and record.peak_memory_mb < 1500


def test_pictures_are_under_150_kb_and_the_whole_under_2_mb(notebook):
    for alt, content in notebook.pictures:
        assert len(base64.b64decode(content)) < 150_000, alt
    assert notebook.path.stat().st_size < 2_000_000


def test_code_cells_have_at_most_25_lines(notebook):
    for cell in notebook.code:
        assert len(cell.source.splitlines()) <= 25, cell.source[:200]


# The pattern


def test_begins_with_title_and_badges_that_open_this_notebook(notebook):
    first = notebook.nodes.cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    name = notebook.path.name
    binder = f"https://mybinder.org/v2/gh/{REPOSITORY}/main?urlpath=lab/tree/notebooks/{name}"
    colab = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/{name}"
    assert f"]({binder})" in first.source and f"]({colab})" in first.source


def test_says_what_it_teaches_how_long_it_takes_and_what_it_needs(notebook):
    opening = notebook.prose[:3000].lower()
    for words in ("will be able to", "time", "needs"):
        assert words in opening, f"{words!r} is missing from the opening"


def test_says_the_time_that_is_estimated_and_takes_75_minutes_at_most(notebook):
    opening = notebook.nodes.cells[0].source
    said = re.search(r"\*\*Time\*\* \(estimated\): (\d+) minutes", opening)
    more = re.search(r"(\d+) more for the optional", opening)
    minutes, optional = shown(notebook.path)
    assert said and int(said[1]) == minutes, f"write: **Time** (estimated): {minutes} minutes"
    assert int(more[1] if more else 0) == optional, f"write: {optional} more for the optional section"
    assert minutes <= 75


def test_first_code_cell_sets_up_and_does_nothing_else(notebook):
    cell = notebook.code[0].source
    assert re.sub(r"\n\n+", "\n", cell).startswith(SET_UP)
    assert "torch.manual_seed(0)" in cell and "ph.default_device()" in cell
    installs = [c.source for c in notebook.code if re.search(r"^\s*[%!]pip\b", c.source, re.M)]
    assert installs == [cell]  # elsewhere a cell never installs anything


def test_has_exercises_with_a_check_and_a_folded_solution(notebook):
    assert len(re.findall(r"^#+ .*Exercise", notebook.prose, re.MULTILINE)) >= 2
    assert notebook.prose.count("<details>") == notebook.prose.count("</details>") >= 2
    assert sum("ph.exercises.check_" in cell.source for cell in notebook.code) >= 2


def test_ends_with_what_to_remember_further_reading_and_next(notebook):
    headings = re.findall(r"^#+ (.*)", notebook.prose, re.MULTILINE)
    assert any("What to remember" in heading for heading in headings)
    assert "further reading" in notebook.prose.lower()
    following = PATHS[PATHS.index(notebook.path) + 1 :]
    if following:
        assert f"]({following[0].name})" in notebook.prose, "no link to the next notebook"


def test_relative_links_lead_somewhere(notebook):
    links = re.findall(r"\]\((?!https?:|#|attachment:|data:)([^)#\s]+)", notebook.prose)
    assert not [link for link in links if not (notebook.path.parent / link).exists()]


def test_pictures_have_alt_texts(notebook):
    assert all(alt for alt, _ in notebook.pictures)
    for output in notebook.outputs:  # JupyterLab and nbconvert read a text only from a tag
        of_its_own = [kind for kind in output.get("data", {}) if kind.startswith("image/")]
        assert not of_its_own, "show figures with ph.plots.show(figure, alt)"
    assert "![](" not in notebook.prose
    assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", notebook.prose))
