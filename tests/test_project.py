"""The project's files agree with each other, and its tools do what the Makefile promises."""

import fnmatch
import importlib
import json
import math
import operator
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

import pixelhelpers as ph
from pixelhelpers import __main__ as command_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Repository"].removeprefix("https://github.com/")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "benchmarks" / "README.md"]
OWN_LINK = re.compile(
    r"(?:mybinder\.org/v2/gh|colab\.research\.google\.com/github|git\+https://github\.com"
    r"|git clone https://github\.com|repository-code: https://github\.com)/([\w.-]+/[\w-]+)"
)


def read(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


def run(*command, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", **options)


def requirement(text: str) -> tuple[str, str]:
    """'torch>=2.9,<3; marker' → ('torch', '>=2.9,<3')"""
    name, version = re.fullmatch(r"([\w.-]+)\s*([^;]*?)\s*(?:;.*)?", text).groups()
    return name, version


# One owner and name


def test_own_links_name_the_repository_of_pyproject():
    files = [*ROOT.glob("*.md"), ROOT / "CITATION.cff", *NOTEBOOKS]
    links = [name for file in files for name in OWN_LINK.findall(file.read_text(encoding="utf-8"))]
    assert links, "no badge, clone line or citation names the repository"
    assert set(links) == {REPOSITORY}


@pytest.fixture
def copy_of_the_project(tmp_path):
    for folder in ("tools", "notebooks", ".github"):
        if (ROOT / folder).exists():
            shutil.copytree(ROOT / folder, tmp_path / folder)
    for file in [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("*.cff")]:
        shutil.copy(file, tmp_path)
    (tmp_path / "pixelhelpers").mkdir()
    shutil.copy(ROOT / "pixelhelpers" / "__init__.py", tmp_path / "pixelhelpers")
    return tmp_path


def contents(folder: Path) -> dict[Path, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(folder): path.read_bytes() for path in files}


def test_fork_renames_everywhere_and_back(copy_of_the_project):
    before = contents(copy_of_the_project)
    fork = [sys.executable, copy_of_the_project / "tools" / "fork.py"]
    run(*fork, "some-one/her.fork", check=True)
    renamed = contents(copy_of_the_project)
    assert not [path for path, text in renamed.items() if REPOSITORY.encode() in text]
    assert b'Repository = "https://github.com/some-one/her.fork"' in renamed[Path("pyproject.toml")]
    run(*fork, REPOSITORY, check=True)
    assert contents(copy_of_the_project) == before  # also: fresh notebooks are still fresh


@pytest.mark.parametrize("name", ["", "no-slash", "https://github.com/a/b", "a/b c"])
def test_fork_refuses_what_is_no_owner_and_name(copy_of_the_project, name):
    before = contents(copy_of_the_project)
    result = run(sys.executable, copy_of_the_project / "tools" / "fork.py", name)
    assert result.returncode and "owner/name" in result.stderr
    assert contents(copy_of_the_project) == before


# A release


def written(folder: Path, pattern: str, *files: str) -> set[str]:
    found = [re.findall(pattern, path.read_text(encoding="utf-8")) for file in files for path in folder.glob(file)]
    assert found and all(found)
    return {text for texts in found for text in texts}


def test_release_writes_its_number_everywhere_and_its_tag_into_the_notebooks(copy_of_the_project):
    (copy_of_the_project / "CHANGELOG.md").write_text("# Changelog\n\n## 9.8.0 (unreleased)\n\n- New.\n\n## 0.0.9\n")
    release = [sys.executable, copy_of_the_project / "tools" / "release.py"]
    run(*release, "main", check=True)
    before = contents(copy_of_the_project)
    run(*release, "9.8.7", check=True)
    lines = {
        "pyproject.toml": r'(?m)^version = "(.*)"',
        "pixelhelpers/__init__.py": r'__version__ = "(.*)"',
        "CITATION.cff": r"(?m)^version: (.*)",
        "CHANGELOG.md": r"(?m)^# Changelog\n\n## (.*)",
    }
    for file, line in lines.items():
        assert written(copy_of_the_project, line, file) == {"9.8.7"}
    address = rf"git\+https://github.com/{REPOSITORY}@(.*)\\n"
    assert written(copy_of_the_project, rf"%pip install -q {address}", "notebooks/*.ipynb") == {"v9.8.7"}
    assert written(copy_of_the_project, r"comes from GitHub, (.*)\\n", "notebooks/*.ipynb") == {"tag v9.8.7"}
    run(*release, "main", check=True)
    assert written(copy_of_the_project, rf"%pip install -q {address}", "notebooks/*.ipynb") == {"main"}
    after = contents(copy_of_the_project)
    assert all(after[path] == before[path] for path in before if path.suffix == ".ipynb")  # also: fresh ones are fresh


@pytest.mark.parametrize("version", ["", "v1.2.3", "1.2", "next"])
def test_release_refuses_what_is_no_version_and_what_is_released_already(copy_of_the_project, version):
    before = contents(copy_of_the_project)
    release = [sys.executable, copy_of_the_project / "tools" / "release.py"]
    result = run(*release, version)
    assert result.returncode and "expected a version such as 0.2.0" in result.stderr
    assert contents(copy_of_the_project) == before
    (copy_of_the_project / "CHANGELOG.md").write_text("# Changelog\n\n## 9.8.0\n")
    result = run(*release, "9.8.1")
    assert result.returncode and "nothing to release" in result.stderr


# One version, one set of requirements


def test_version_is_the_same_everywhere():
    version = PROJECT["version"]
    assert yaml.safe_load(read("CITATION.cff"))["version"] == version
    assert f'__version__ = "{version}"' in read("pixelhelpers", "__init__.py")
    assert re.search(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)[1] == version


def test_environment_yml_asks_for_what_pyproject_asks_for():
    conda_names = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}
    extras = PROJECT["optional-dependencies"]
    wanted = {"python": PROJECT["requires-python"], "pip": ""}
    for text in PROJECT["dependencies"] + extras["notebooks"] + extras["test"]:
        if "python_version <" not in text:  # backports; conda takes a new Python
            name, version = requirement(text)
            wanted[conda_names.get(name, name)] = version
    environment = yaml.safe_load(read("environment.yml"))["dependencies"]
    assert dict(requirement(text) for text in environment if isinstance(text, str)) == wanted
    assert environment[-1] == {"pip": ["-e ."]}


def test_plain_install_brings_no_notebook_or_test_tools():
    names = {requirement(text)[0] for text in PROJECT["dependencies"]}
    assert names == {
        "accelerate",
        "filelock",
        "numpy",
        "pillow",
        "psutil",
        "safetensors",
        "torch",
        "torchvision",
        "tqdm",
    }


WORKFLOW = yaml.safe_load(read(".github", "workflows", "test.yml"))


def commands(job: str) -> str:
    return "\n".join(step.get("run", "") for step in WORKFLOW["jobs"][job]["steps"])


def test_workflow_covers_all_systems_and_pythons_the_newest_versions_and_the_lowest():
    matrix = WORKFLOW["jobs"]["test"]["strategy"]["matrix"]
    assert {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert matrix["versions"] == ["newest"]
    [lowest] = [job for job in matrix["include"] if job["versions"] == "lowest"]
    assert ">=" + lowest["python"] == PROJECT["requires-python"]
    minors = {int(python.removeprefix("3.")) for python in matrix["python"]}
    minors |= {int(job["python"].removeprefix("3.")) for job in matrix["include"]}
    assert minors == set(range(min(minors), max(minors) + 1)) and f"3.{min(minors)}" == lowest["python"]
    assert f"3.{max(minors)}" in matrix["python"]  # on all systems


def test_every_requirement_has_a_lowest_version_that_the_job_of_lowest_versions_takes():
    extras = PROJECT["optional-dependencies"]
    requirements = [*PROJECT["dependencies"], *(text for extra in extras.values() for text in extra)]
    assert len(requirements) > 20 and not [text for text in requirements if ">=" not in requirement(text)[1]]
    steps = WORKFLOW["jobs"]["test"]["steps"]
    [hold] = [step["run"] for step in steps if step.get("if") == "matrix.versions == 'lowest'"]
    [file] = re.findall(
        r"uv pip compile --resolution lowest-direct --all-extras pyproject.toml --output-file (\S+)", hold
    )
    assert f"PIP_CONSTRAINT=$PWD/{file}" in hold


def test_workflow_asks_for_what_there_is():
    """Targets of make, extras, files: what a job names exists."""
    targets = re.search(r"^\.PHONY: (.*)", read("Makefile"), re.MULTILINE)[1].split()
    extras = set(PROJECT["optional-dependencies"])
    asked = {"make": set(), "extra": set(), "file": set()}
    for job in WORKFLOW["jobs"]:
        asked["make"] |= set(re.findall(r"\bmake (\w+)", commands(job)))
        asked["extra"] |= {
            name for names in re.findall(r'"\.\[([\w,]+)\]"', commands(job)) for name in names.split(",")
        }
        asked["file"] |= set(re.findall(r"(?<!\S)((?:tests|notebooks|tools)/\S+|\w+\.toml)", commands(job)))
        asked["file"] |= {
            step["with"]["environment-file"]
            for step in WORKFLOW["jobs"][job]["steps"]
            if "environment-file" in step.get("with", {})
        }
    assert {"test", "lint"} <= asked["make"] <= set(targets)
    assert {"notebooks", "test"} <= asked["extra"] <= extras
    assert {"environment.yml", "pyproject.toml", "tools/notebooks.py"} <= asked["file"]
    assert not [file for file in asked["file"] if not (ROOT / file).exists()]


def test_workflow_on_windows_runs_the_lines_of_the_readme():
    """But for how Python is called: there `py` finds the newest, here the matrix says which."""
    lines = [line.strip() for line in commands("test").splitlines()]
    shown = re.findall(r"^(?:py |\.venv\\).*", read("README.md"), re.MULTILINE)
    assert len(shown) == 4 and re.fullmatch(r"py( -3\.\d+)? -m venv \.venv", shown[0])
    assert "python -m venv .venv" in lines and shown[1] in lines and shown[3] in lines


def test_the_wheel_is_built_by_what_builds_the_package():
    build = tomllib.loads(read("pyproject.toml"))["build-system"]["requires"]
    assert set(build) <= set(PROJECT["optional-dependencies"]["test"])  # the tests build it without a network


# What goes into a wheel


def test_wheel_carries_digits_weights_and_records():
    build = tomllib.loads(read("pyproject.toml"))["tool"]["hatch"]["build"]
    assert build["targets"]["wheel"]["packages"] == ["pixelhelpers"]
    wanted = {"data/digits.npz": "pixelhelpers/data_files/digits.npz"}
    for path in [*ROOT.glob("benchmarks/*.json"), ROOT / "benchmarks" / "minutes.png"]:
        wanted[f"benchmarks/{path.name}"] = f"pixelhelpers/records/{path.name}"
    assert build["targets"]["wheel"]["force-include"] == wanted
    for source in wanted:
        assert (ROOT / source).is_file()
        assert any(fnmatch.fnmatch(f"/{source}", pattern) for pattern in build["targets"]["sdist"]["include"])


def test_a_record_is_read_from_the_checkout_and_from_an_installed_package(tmp_path, monkeypatch):
    names = {path.stem for path in ROOT.glob("benchmarks/*.json")}
    assert set(ph.list_records()) == names and len(names) > 5
    for name in names:
        assert ph.record(name) == json.loads(read("benchmarks", f"{name}.json"))
    (tmp_path / "benchmarks").mkdir()  # somebody else's, beside the package in site-packages
    (tmp_path / "benchmarks" / "shifted.json").write_text("{}")
    installed = tmp_path / "pixelhelpers"
    shutil.copytree(ROOT / "benchmarks", installed / "records")
    monkeypatch.setattr(ph.records, "_PACKAGE", installed)
    assert set(ph.list_records()) == names and ph.record("shifted")["runs"]
    with pytest.raises(ValueError, match="no record is called 'shiftet'; there are: ablation"):
        ph.record("shiftet")


def test_git_keeps_shipped_data_and_ignores_downloads():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    kept = ["data/digits.npz", "data/README.md", "pixelhelpers/pretrained/x/model.safetensors"]
    ignored = ["data/FashionMNIST/raw/x.gz", "data/cifar-10-python.tar.gz", ".venv/x", "runs/x"]
    answer = run("git", "check-ignore", "--no-index", *kept, *ignored, cwd=ROOT)
    assert answer.stdout.split() == ignored  # a build leaves out what git ignores


# README


def test_readme_lists_every_notebook_with_badges_that_lead_to_it():
    readme = read("README.md")
    linked = re.findall(r"\]\(notebooks/([\w.-]+\.ipynb)\)", readme)
    binder = re.findall(r"urlpath=lab/tree/notebooks/([\w.-]+\.ipynb)\)", readme)
    colab = re.findall(r"/blob/main/notebooks/([\w.-]+\.ipynb)\)", readme)
    existing = [path.name for path in NOTEBOOKS]
    assert sorted(set(linked)) == existing
    assert sorted(set(binder)) == existing and sorted(set(colab)) == existing


def test_readme_shows_the_times_that_are_estimated():
    from tools.reading_time import shown

    rows = re.findall(r"\]\(notebooks/([\w.-]+\.ipynb)\) \| .* \| (\d+) min(?: \+ (\d+))? \|", read("README.md"))
    said = {name: (int(minutes), int(optional or 0)) for name, minutes, optional in rows}
    assert said == {path.name: shown(path) for path in NOTEBOOKS}
    hours, more = map(
        int, re.search(r"Together they take about (\d+) hours, and (\d+) with", read("README.md")).groups()
    )
    assert abs(60 * hours - sum(minutes for minutes, _ in said.values())) <= 30
    assert abs(60 * more - sum(map(sum, said.values()))) <= 30


def test_readme_is_short_and_begins_with_picture_commands_and_notebooks():
    lines = read("README.md").splitlines()
    marks = ("<img", "make lab", "| 00 |", "| 14 |", "## Results")
    places = [next(number for number, line in enumerate(lines) if mark in line) for mark in marks]
    assert places == sorted(places) and places[-2] < 50
    assert len(lines) <= 220


def code_of(page: Path) -> str:
    """A page's blocks of code."""
    return "\n".join(re.findall(r"^```\w*\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "benchmarks" / "README.md"])
def test_commands_that_are_written_down_have_the_options_they_name(page):
    commands = re.findall(r"-m pixelhelpers (.+)", code_of(page))
    whole = [command for command in commands if not command.endswith("…")]
    assert len(whole) >= 2
    for command in whole:
        command_line._parser().parse_args(shlex.split(command))  # exits at what it does not know


def test_readme_names_what_exists():
    readme = read("README.md")
    names = set(re.findall(r"\bph\.(\w+(?:\.\w+)*)", readme))
    targets = set(re.findall(r"\bmake ([a-z]+)", code_of(ROOT / "README.md"))) | set(
        re.findall(r"`make ([a-z]+)", readme)
    )
    assert "load_pretrained" in names and {"lab", "test", "update"} <= targets
    for name in names:
        operator.attrgetter(name)(ph)
    assert targets <= set(re.search(r"^\.PHONY: (.*)", read("Makefile"), re.MULTILINE)[1].split())


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.+?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|mailto:)([^)#]*)(?:#([^)]*))?\)", text)
    links += [(source, "") for source in re.findall(r"<img src=\"([^\"]*)\"", text)]
    for name, anchor in links:
        target = page.parent / name if name else page
        assert target.exists(), name
        assert not anchor or target.suffix != ".md" or anchor in anchors(target), f"{name} has no heading {anchor!r}"


def test_pictures_have_alt_texts():
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        assert "![](" not in text, path
        assert all("alt=" in tag for tag in re.findall(r"<img[^>]*>", text)), path


def test_the_first_picture_has_a_column_for_each_class_and_its_text_names_them(monkeypatch):
    from tools import front_picture

    text = re.search(r"<img src=\"\.github/front\.png\"[^>]* alt=\"([^\"]*)\"", read("README.md"))[1]
    assert all(name.lower() in text.lower() for name in front_picture.NAMES) and len(set(front_picture.NAMES)) == 10
    drawn = []
    monkeypatch.setattr(
        ph, "sample", lambda model, count, label, seed: drawn.append(label) or label[:, None, None, None]
    )
    images = front_picture.paint()
    assert drawn[0].tolist() == sorted([*range(10)] * front_picture.OF_EACH)  # which also `--label 0 1 … 9` asks for
    assert (images[..., 0, 0, 0] == torch.arange(10)).all()
    [axis] = front_picture.draw(images.expand(-1, -1, 1, 4, 4)).axes
    width = axis.images[0].get_array().shape[1] / 10
    assert [(int(tick.get_position()[0] // width), tick.get_text()) for tick in axis.get_xticklabels()] == [
        *enumerate(front_picture.NAMES)
    ]


# Tools


def test_set_up_refuses_an_old_python_in_words(tmp_path):
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    project = read("pyproject.toml").replace('">=3.10"', '">=3.99"')
    (tmp_path / "pyproject.toml").write_text(project, encoding="utf-8")
    result = run(sys.executable, tmp_path / "tools" / "setup_env.py")
    assert result.returncode and not (tmp_path / ".venv").exists()
    assert re.search(r"Python 3\.99 or newer is needed, .* is Python 3\.\d+", result.stderr)
    assert "Traceback" not in result.stderr


def test_set_up_is_readable_for_any_python():
    source = read("tools", "setup_env.py")
    assert source.isascii()  # Python 2 wants a declaration for anything else
    assert not re.search(r"\bf['\"]|:=|\bmatch .*:$", source, re.MULTILINE)


def set_up(tmp_path, code: str) -> subprocess.CompletedProcess:
    """Run `code` after `import setup_env`, in a copy whose .venv and pip nothing can reach."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "setup_env.py", tmp_path / "tools")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return run(sys.executable, "-c", "import setup_env\n" + code, cwd=tmp_path / "tools")


def test_set_up_says_how_much_disk_is_missing(tmp_path):
    result = set_up(tmp_path, "setup_env.GIGABYTES['CUDA'] = 1e9; setup_env.require_space('CUDA')")
    assert result.returncode and "GB are free" in result.stderr
    assert "Traceback" not in result.stderr


def test_set_up_names_the_missing_venv_package(tmp_path):
    code = "import sys; sys.modules['ensurepip'] = None; setup_env.make_venv()"
    result = set_up(tmp_path, code)
    assert result.returncode and not (tmp_path / ".venv").exists()
    assert "sudo apt install python3." in result.stderr and "-venv" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="make lab and make test are for Linux and macOS")
def test_set_up_runs_again_only_when_requirements_change(tmp_path):
    code = """
import os
installs = []
setup_env.make_venv = lambda: os.makedirs(setup_env.VENV, exist_ok=True)
setup_env.install = lambda: installs.append(1)
setup_env.venv_can = lambda code: True
setup_env.main()
setup_env.main()
setup_env.PROJECT = setup_env.PROJECT.replace("tqdm>=", "tqdm>")
setup_env.main()
setup_env.PROJECT += "line-length = 90"
setup_env.main()
print(len(installs))
"""
    assert set_up(tmp_path, code).stdout.split()[-1] == "2"


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_help_names_every_target():
    targets = re.search(r"^\.PHONY: (.*)", read("Makefile"), re.MULTILINE)[1].split()
    listed = re.findall(r"^make (\S+)", run("make", "help", cwd=ROOT).stdout, re.MULTILINE)
    assert listed == targets


NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# Title\n", "Prose."]},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {},
            "execution_count": None,
            "outputs": [],
            "source": "print(6 * 7)",
        },
    ],
    "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
    "nbformat": 4,
    "nbformat_minor": 5,
}


@pytest.fixture
def notebook_tool(tmp_path):
    """`tools/notebooks.py` on a folder with one notebook."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    (tmp_path / "notebooks").mkdir()
    path = tmp_path / "notebooks" / "01_try.ipynb"
    path.write_text(json.dumps(NOTEBOOK), encoding="utf-8")

    def tool(*arguments):
        return run(sys.executable, tmp_path / "tools" / "notebooks.py", *arguments)

    return tool, path


@pytest.mark.skipif(os.name == "nt", reason="the record of memory needs the resource module")
def test_refresh_stores_outputs_and_a_hash_of_the_code(notebook_tool):
    from tools.notebooks import source_hash

    tool, path = notebook_tool
    assert tool("refresh", "01").returncode == 0
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert len(notebook["cells"]) == 2
    assert "".join(notebook["cells"][1]["outputs"][0]["text"]) == "42\n"
    record = notebook["metadata"]["pixelhelpers"]
    assert record["source_hash"] == source_hash(notebook)
    assert record["peak_memory_mb"] >= record["memory_mb_at_rest"] > 10
    notebook["cells"][0]["source"] = "other prose"
    assert record["source_hash"] == source_hash(notebook)
    notebook["cells"][1]["source"] = "print(6 * 8)"
    assert record["source_hash"] != source_hash(notebook)


@pytest.mark.parametrize("command", ["refresh", "execute"])
def test_a_failing_cell_fails_the_run_and_stores_nothing(notebook_tool, command):
    tool, path = notebook_tool
    before = path.read_text().replace("6 * 7", "6 / 0")
    path.write_text(before)
    result = tool(command)
    assert result.returncode and "01_try.ipynb" in result.stderr
    assert "ZeroDivisionError" in result.stdout
    assert path.read_text() == before


def test_unknown_notebook_is_named(notebook_tool):
    result = notebook_tool[0]("refresh", "77")
    assert result.returncode and "77" in result.stderr


def test_text_shows_sources_and_outputs_but_no_picture_data(notebook_tool):
    tool, path = notebook_tool
    notebook = json.loads(path.read_text())
    data = {"text/plain": ["<Figure>"], "image/png": "iVBORw0KGgo" * 999}
    notebook["cells"][1]["outputs"] = [
        {"output_type": "display_data", "data": data, "metadata": {}},
        {"output_type": "stream", "name": "stdout", "text": ["42\n"]},
    ]
    path.write_text(json.dumps(notebook))
    text = tool("text", path).stdout
    assert all(part in text for part in ("Prose.", "print(6 * 7)", "<Figure>", "42", "image/png"))
    assert "iVBORw0KGgo" not in text and len(text) < 400


def test_time_counts_words_cells_and_exercises_and_optional_sections_apart():
    from tools.reading_time import minutes, parts

    def markdown(text):
        return {"cell_type": "markdown", "source": text.splitlines(keepends=True)}

    def code(text):
        return {"cell_type": "code", "source": text}

    words = "word " * 300  # two minutes
    badge = "[![Binder](https://a.b/c.svg)](https://d.e/f)"
    everybody = [
        markdown(f"# Title\n\n{badge}\n{words}"),
        code("print(1)"),
        markdown(f"### Exercise\n<details>{words}</details>\n{words}"),
        code("ph.exercises.check_it(it)"),
        code("ph.hardware.give_memory_back(globals())"),
        markdown("## The end\n" + words),
    ]
    assert 15 <= minutes(everybody) < 15.1  # 3 times 2 for words, 1 for a cell, 8 for an exercise; the last is free
    optional = [markdown(f"## 7. Optional: more\n{words}"), code("print(2)"), markdown(f"### Part\n{words}"), code("")]
    whole = everybody[:2] + optional + [markdown(f"{words}\n## Section\n")] + everybody[2:]
    apart = [minutes(part) for part in parts(whole)]
    assert 15 <= apart[0] < 15.1 and 8 <= apart[1] < 8.1  # words before a heading belong to the section above it


# Continuous integration


@pytest.mark.skipif(os.name == "nt", reason="a shell script")
@pytest.mark.parametrize("with_datasets", [True, False])
def test_ci_gives_the_tests_a_copy_of_the_data_sets(tmp_path, with_datasets):
    project = tmp_path / "project"
    shutil.copytree(ROOT / ".ci", project / ".ci")
    (project / "Makefile").write_text(
        'test:\n\t@echo "data: $$PIXELHELPERS_DATA"\n'
        '\t@test -z "$$PIXELHELPERS_DATA" || touch "$$PIXELHELPERS_DATA/unpacked"\n\t@exit 3\n'
    )
    if with_datasets:
        (tmp_path / "shared" / "datasets" / "MNIST").mkdir(parents=True)
    environment = {k: v for k, v in os.environ.items() if k != "PIXELHELPERS_DATA"}
    result = run("bash", project / ".ci" / "run", env=environment)
    folder = re.search(r"data: (.*)", result.stdout)[1]
    assert result.returncode  # a failing test fails the run
    assert bool(folder) == with_datasets
    if with_datasets:
        assert os.listdir(tmp_path / "shared" / "datasets") == ["MNIST"]  # left as it was
        assert not Path(folder).exists()  # and cleaned up


def benchmark_and_record(name, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    record = (ROOT / "benchmarks" / f"{name}.json").read_text(encoding="utf-8")
    return importlib.import_module(name), json.loads(record)


TABLES = ("sampling", "compare", "one_picture", "processes", "training", "learning", "quality")


@pytest.mark.parametrize("name", TABLES)
def test_the_page_of_benchmarks_shows_the_table_of_the_record(name, monkeypatch, tmp_path):
    """What stands there is what the script would write, and nothing else on the page would change."""
    benchmark, record = benchmark_and_record(name, monkeypatch)
    sampling = importlib.import_module("sampling")
    page = read("benchmarks", "README.md")
    monkeypatch.setattr(sampling, "README", tmp_path / "README.md")
    sampling.README.write_text(page, encoding="utf-8")
    sampling.into_readme(benchmark.FILE, "| nothing |\n")
    assert sampling.README.read_text(encoding="utf-8") != page
    sampling.into_readme(benchmark.FILE, benchmark.table(record))
    assert sampling.README.read_text(encoding="utf-8") == page


def test_every_script_that_writes_a_table_finds_its_place():
    page = read("benchmarks", "README.md")
    writing = [
        path.name for path in (ROOT / "benchmarks").glob("*.py") if "into_readme(FILE" in path.read_text("utf-8")
    ]
    marks = re.findall(
        r"^<!-- table of benchmarks/(\w+\.py) -->\n(?:\|.*\n|\n)*<!-- end of table -->\n", page, re.MULTILINE
    )
    assert sorted(marks) == sorted(writing) == sorted(f"{name}.py" for name in TABLES)


def test_what_is_tried_first_is_what_was_measured(monkeypatch):
    """The defaults of `fit` are the recipes that learned most in the first stage of the benchmark of learning."""
    benchmark, record = benchmark_and_record("learning", monkeypatch)
    for family, (kind, _) in benchmark.FAMILIES.items():
        for recipe in kind.recipes:
            assert benchmark.chosen(record["runs"], family, recipe.optimizer) == (recipe.batch_size, recipe.lr)
        best = []
        for recipe in kind.recipes:
            tried = {"family": family, "optimizer": recipe.optimizer, "images": benchmark.IMAGES_TO_CHOOSE}
            scores = [row["valid"] for row in benchmark.trainings.rows_of(record["runs"], **tried) if row["valid"]]
            best.append(min(scores, default=math.inf))
        assert best[0] < min(best[1:]) - benchmark.NOISE


def test_a_target_counts_as_reached_where_the_curve_stays_below_it(monkeypatch):
    benchmark, _ = benchmark_and_record("learning", monkeypatch)
    curve = [(100, 4.0, 1.0), (200, 2.8, 2.0), (300, 3.0, 3.0), (400, 2.8, 4.0), (500, 2.7, 5.0)]
    assert benchmark.reached({"curve": curve}, 2.9) == 350
    assert benchmark.reached({"curve": curve}, 2.6) is benchmark.reached({"curve": curve}, 5.0) is None


def test_the_recipe_before_gets_three_times_the_images_that_muon_needed(monkeypatch):
    benchmark, record = benchmark_and_record("learning", monkeypatch)
    rows, before = record["runs"], dict(zip(("optimizer", "batch_size", "lr"), benchmark.BEFORE, strict=True))
    asked = {family: benchmark.three_times(rows, family) for family in benchmark.FAMILIES}
    assert sum(map(bool, asked.values())) >= 3
    for family, images in asked.items():
        choice = dict(zip(("batch_size", "lr"), benchmark.chosen(rows, family, "muon"), strict=True))
        for seed in range(3) if images else ():
            arm = dict(family=family, seed=seed, images=benchmark.affordable(family))
            (muon,) = benchmark.trainings.rows_of(rows, **arm, optimizer="muon", **choice)
            assert 3 * benchmark.reached(muon, benchmark.TARGET) <= images
        if images:
            assert benchmark.trainings.rows_of(rows, **before, family=family, images=images), family
    short = [row for row in rows if not (row["optimizer"] == "muon" and row["seed"] == 2)]
    assert not any(benchmark.three_times(short, family) for family in benchmark.FAMILIES)  # a seed is missing


def test_the_peer_of_the_benchmark_of_learning_is_causal(monkeypatch):
    benchmark, _ = benchmark_and_record("learning", monkeypatch)
    benchmark.ph.check_causal(benchmark.Peer(hidden=6, levels=5), levels=5)


def test_the_comparison_is_of_models_that_did_equal_work(monkeypatch):
    benchmark, record = benchmark_and_record("compare", monkeypatch)
    assert list(record["models"]) == list(benchmark.MODELS)
    x = torch.zeros(1, 1, 28, 28)
    for name, row in record["models"].items():
        model = benchmark.build(name)
        assert row["class"] == type(model).__name__
        assert row["parameters"] == sum(weight.numel() for weight in model.parameters())
        assert row["network_evaluations"] == benchmark.turns(model)
        assert row["network_evaluations_of_plain_loop"] == benchmark.turns_of_plain_loop(model)
        work = row["training_images"] * benchmark.multiply_adds(model, x)
        assert work == pytest.approx(
            benchmark.IMAGES * benchmark.multiply_adds(benchmark.build("pixelcnn"), x), rel=0.001
        )
        assert {run["images"] for run in record["runs"] if run["model"] == name} == {row["training_images"]}
