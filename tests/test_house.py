"""The house stands as CONTRIBUTING.md says: every file has its line, and imports only from lines above it."""

import ast
import re
from pathlib import Path

import pytest

from pixelhelpers.models.base import AutoregressiveModel

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pixelhelpers"
FILES = sorted(path for path in PACKAGE.rglob("*.py"))


def rooms() -> dict[str, int]:
    """The files and folders of the package and the line of CONTRIBUTING.md that they stand in, counted from above."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- the house -->\n```\n(.*?)```", text, re.DOTALL)[1]
    lines = [line.split("  ")[0] for line in block.splitlines() if not line.startswith(" ")]
    return {name: number for number, line in enumerate(lines) for name in line.split()}


ROOMS = rooms()


def module(path: Path) -> str:
    """'pixelhelpers/models/base.py' -> 'models.base'; a package's __init__.py is the package."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def room(name: str) -> str:
    """The room that a module of the package stands in."""
    top = name.split(".")[0]
    return f"{top}/" if (PACKAGE / top).is_dir() else f"{top}.py"


MODULES = {module(path) for path in FILES}


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, at its head or inside a function."""
    here, found = module(path), set()
    folder = here if path.name == "__init__.py" else here.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [
                a.name.removeprefix("pixelhelpers").strip(".")
                for a in node.names
                if a.name.split(".")[0] == "pixelhelpers"
            ]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = folder.split(".") if folder else []
            base = base[: len(base) - node.level + 1]
            source = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{source}.{a.name}".strip(".") for a in node.names]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pixelhelpers"):
            source = node.module.removeprefix("pixelhelpers").strip(".")
            names = [f"{source}.{a.name}".strip(".") for a in node.names]
        for name in names:
            found.add(name if name in MODULES else name.rpartition(".")[0])
    return found - {here}


def test_every_file_has_a_line():
    tops = {path.relative_to(PACKAGE).parts[0] + ("/" if path.parent != PACKAGE else "") for path in FILES}
    tops |= {"pretrained/"}
    assert tops - {"__init__.py"} == set(ROOMS)


@pytest.mark.parametrize("path", FILES, ids=module)
def test_a_file_imports_only_from_lines_above_its_own(path):
    if path == PACKAGE / "__init__.py":
        return  # the front door: it names what is in the house
    own = room(module(path))
    for name in imports(path):
        assert name, f"{module(path)} comes in through the front door: name the module that it wants"
        other = room(name)
        above = ROOMS[other] < ROOMS[own]
        assert above or (other == own and own.endswith("/")), f"{module(path)} imports {name}, which is not above it"


@pytest.mark.parametrize("folder", sorted(name for name in ROOMS if name.endswith("/") and name != "pretrained/"))
def test_within_a_folder_imports_make_no_circle(folder):
    inside = {module(path): imports(path) for path in FILES if room(module(path)) == folder}
    standing = {name for name in inside if name != folder.strip("/")}  # the folder's own __init__ comes last
    while standing:
        free = {name for name in standing if not inside[name] & standing}
        assert free, f"{sorted(standing)} import each other in a circle"
        standing -= free


def test_the_reader_of_imports_reads_them(tmp_path):
    """The tests above would pass if nothing were found."""
    assert imports(PACKAGE / "models" / "gated.py") >= {"errors", "layers", "stepping", "models.base", "models.heads"}
    assert imports(PACKAGE / "plots.py") >= {"grids", "sampling"}
    assert "models.own" in imports(PACKAGE / "checking.py") and "data" in imports(PACKAGE / "__main__.py")


@pytest.mark.parametrize("path", [path for path in FILES if "exercises" not in path.parts], ids=module)
def test_a_file_opens_with_one_sentence_that_names_what_is_in_it(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    sentence = ast.get_docstring(tree).split("\n\n")[0]
    assert sentence.endswith((".", "?")) and len(sentence) < 240, sentence
    assert not re.search(r"[.?!] [A-Z]", sentence.replace("e.g. ", "")) or sentence.count("?") == 1, sentence
    if path.name == "__init__.py":
        return
    public = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not node.name.endswith("Step")  # stands beside the `forward` that it mirrors
    ]
    missing = [name for name in public if not re.search(rf"\b{name}\b", sentence)]
    assert len(public) > 8 or not missing, f"{sentence!r} does not name {', '.join(missing)}"


@pytest.mark.parametrize("path", FILES, ids=module)
def test_the_package_subclasses_no_concrete_model(path):
    models = {*AutoregressiveModel._known, "OwnModule"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            assert not models & {ast.unparse(base).rpartition(".")[2] for base in node.bases}, node.name
            assert sum(ast.unparse(base).endswith(("Model", "Module")) for base in node.bases) <= 1, node.name
