"""The page of names has every name of the package that a notebook uses, no other, and its lines run."""

import ast
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from sections import NOTEBOOKS

import pixelhelpers as ph

SHEET = (NOTEBOOKS / "cheatsheet.md").read_text(encoding="utf-8")
SCRIPT = "\n".join(re.findall(r"```python\n(.*?)```", SHEET, re.DOTALL))


def code(path: Path) -> str:
    """A notebook's cells as one program; what installs something is left out."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    return re.sub(r"^(\s*)%.*$", r"\1pass", source, flags=re.MULTILINE)


def chains(source: str) -> Iterator[list[str]]:
    """What a program writes behind `ph`, dot by dot to the end, and what it imports from the package."""
    tree = ast.parse(source)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            written = ast.unparse(node)
            if re.fullmatch(r"ph(\.\w+)+", written):
                yield written.split(".")[1:]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pixelhelpers."):
            yield from ([*node.module.split(".")[1:], alias.name] for alias in node.names)


def name(words: list[str]) -> str | None:
    """The shortest name of the first thing in a chain that is no module; with it, a method that makes one of a class.

    None for what is no thing of the package, and for the checks of exercises.
    """
    thing: Any = ph
    known: list[str] = []
    for word in words:
        thing = getattr(thing, word)
        known.append(word)
        if not isinstance(thing, ModuleType):
            break
        if not thing.__name__.startswith("pixelhelpers"):
            return None  # another library's
    else:
        return None  # a module by itself
    if words[0] == "exercises":
        return None
    makes = [m for m in words[len(known) :][:1] if inspect.isclass(thing) and inspect.ismethod(getattr(thing, m))]
    short = known[-1:] if getattr(ph, known[-1], None) is thing else known
    return ".".join(["ph", *short, *makes])


def names(source: str) -> set[str]:
    return {found for words in chains(source) if (found := name(words))}


def test_a_name_is_the_shortest_one_that_leads_to_a_thing():
    source = """
from pixelhelpers.rewriting import to_masked
ph.plots.show(ph.plots.mpl.patches.Circle((0, 0)), "a circle")
ph.layers.MaskedConv2d("A", 1, 1, 3).weight.data
ph.Images.from_folder("here").train
ph.models.gated.GatedStep.predict
ph.plots.RED.lower()
ph.exercises.check_top_p(...)
ph.plots
"""
    assert names(source) == {
        "ph.rewriting.to_masked",
        "ph.plots.show",
        "ph.MaskedConv2d",
        "ph.Images.from_folder",
        "ph.models.gated.GatedStep",
        "ph.plots.RED",
    }


def test_has_every_name_that_a_notebook_uses_and_no_other():
    used = set().union(*(names(code(path)) for path in NOTEBOOKS.glob("*.ipynb")))
    assert len(used) > 50
    missing, superfluous = sorted(used - names(SCRIPT)), sorted(names(SCRIPT) - used)
    assert not missing, "notebooks/cheatsheet.md lacks these: a line and an example each, please"
    assert not superfluous, "no notebook uses these any more: take their lines from notebooks/cheatsheet.md"


def test_a_line_that_brings_a_name_says_what_it_is():
    said = set()
    for statement in SCRIPT.splitlines():
        if "#" in statement:
            said |= set(re.findall(r"\bph(?:\.\w+)+", statement.partition("#")[0]))
    assert not names(SCRIPT) - said, "behind # stands what it is"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_lines_run_as_one_program(tmp_path, monkeypatch):
    pictures = tmp_path / "my" / "pictures"
    pictures.mkdir(parents=True)
    for grey in range(20):
        Image.new("L", (30, 30), 10 * grey).save(pictures / f"{grey}.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(SCRIPT, "cheatsheet.md", "exec"), {"__name__": "cheatsheet"})
