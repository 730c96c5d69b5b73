"""The ledger of claims: every entry has a verdict and leads to the cell that asserts it."""

import ast
import re
from urllib.parse import unquote

import pytest
from sections import NOTEBOOKS, pieces, section

CLAIMS = (NOTEBOOKS / "claims.md").read_text(encoding="utf-8")
ENTRIES = re.findall(r"^### (.+?)\n+(.+?)(?=^#|\Z)", CLAIMS, re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([\w./-]+\.(?:ipynb|md))(?:#([^)\s]+))?\)")


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


# Entries that do not quote their assertion yet: this list only ever gets shorter.
TO_QUOTE: set[str] = set()


def assertions(source: str) -> list[str]:
    """The conditions that a cell asserts whenever it runs: at its top level, or in its loops and `with` blocks."""
    code = "\n".join("pass" if line.startswith(("%", "!")) else line for line in source.splitlines())
    found, waiting = [], list(ast.parse(code).body)
    while waiting:
        statement = waiting.pop(0)
        if isinstance(statement, ast.Assert):
            found.append(ast.unparse(statement.test))
        elif isinstance(statement, (ast.For, ast.With)):
            waiting += statement.body
    return found


def quoted(entry: str) -> list[str]:
    """The assertions that an entry quotes, as conditions."""
    spans = re.findall(r"`(assert [^`]+)`", entry.partition("*Shown in*")[2])
    return [condition for span in spans for condition in assertions(" ".join(span.split()))]


@pytest.mark.parametrize("claim, entry", ENTRIES, ids=[claim for claim, _ in ENTRIES])
def test_every_claim_is_asserted_by_exactly_one_cell_under_its_links(claim, entry):
    """nbval runs the cell, and the assertion is reached whenever it runs: negated, it would stop the notebook."""
    if claim in TO_QUOTE:
        assert not quoted(entry), "it quotes its assertion now: take it off the list"
        return
    shown = [section(NOTEBOOKS / name, anchor) for name, anchor in links(entry.partition("*Shown in*")[2]) if anchor]
    cells = {source for part in shown for source in part.code}
    assert quoted(entry), "write the asserting line behind its link: `assert …`"
    for condition in quoted(entry):
        assert [condition in assertions(source) for source in cells].count(True) == 1, condition


def test_an_assertion_that_may_not_be_reached_does_not_count():
    assert assertions("%pip install x\nassert a == 1, 'why'\nfor b in c:\n    assert d") == ["a == 1", "d"]
    assert not assertions("if a:\n    assert b\ndef f():\n    assert c")


@pytest.mark.parametrize(
    "path", sorted([*NOTEBOOKS.glob("*.md"), *NOTEBOOKS.glob("*.ipynb")]), ids=lambda path: path.name
)
def test_links_lead_to_headings_that_exist(path):
    text = "".join(part.prose for part in pieces(path)) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    for name, anchor in links(text):
        target = path.parent / name
        assert target.exists(), name
        if anchor and target.suffix == ".ipynb":
            assert anchor in {part.anchor for part in pieces(target)}, f"{name} has no heading {anchor!r}"
