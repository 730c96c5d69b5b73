"""The ledger of claims: every entry has a verdict and leads to the cell that shows it."""

import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
CLAIMS = (NOTEBOOKS / "claims.md").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^### (.+?)\n+(.+?)(?=^#|\Z)", CLAIMS, re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([\w./-]+\.(?:ipynb|md))(?:#([^)\s]+))?\)")


def prose(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def anchors(path: Path) -> set[str]:
    """The anchors that JupyterLab gives a notebook's headings: their text with dashes for spaces."""
    without_code = re.sub(r"^```.*?^```", "", prose(path), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ +(.+?)\s*$", without_code, re.MULTILINE)
    plain = [re.sub(r"[*`]|\[(.+?)\]\(.+?\)", r"\1", heading) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def links(text: str) -> list[tuple[str, str]]:
    return [(name, unquote(anchor)) for name, anchor in LINK.findall(text)]


def test_ledger_holds_the_claims_that_everybody_meets():
    everything = " ".join(claim for claim, _ in ENTRIES).lower()
    for words in (
        "cover parts of the image",
        "its own guesses",
        "above and to the left",
        "784 forward passes",
        "a gpu speeds up sampling",
        "argmax gives the most likely image",
    ):
        assert words in everything


@pytest.mark.parametrize("claim, entry", ENTRIES, ids=[claim for claim, _ in ENTRIES])
def test_every_claim_has_a_verdict_and_names_the_cell_that_shows_it(claim, entry):
    assert re.match(r"“.+”$", claim), "a claim stands in quotation marks, as it is heard"
    assert entry.startswith(("**True.**", "**False.**", "**Half true.**"))
    shown = entry.partition("*Shown in*")[2]
    assert any(name.endswith(".ipynb") and anchor for name, anchor in links(shown))


@pytest.mark.parametrize(
    "path", sorted([*NOTEBOOKS.glob("*.md"), *NOTEBOOKS.glob("*.ipynb")]), ids=lambda path: path.name
)
def test_links_lead_to_headings_that_exist(path):
    for name, anchor in links(prose(path)):
        target = path.parent / name
        assert target.exists(), name
        if anchor and target.suffix == ".ipynb":
            assert anchor in anchors(target), f"{name} has no heading {anchor!r}"
