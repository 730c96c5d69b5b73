"""The glossary is sorted, names every term once, and leads to a section that has the term."""

import json
import re
from pathlib import Path

import pytest

from tests.notebooks.test_claims import NOTEBOOKS, anchors, links
from tools.hard_to_read import reasons

PAGE = (NOTEBOOKS / "glossary.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \| (\[.+?\]\(.+?\)) \|$", PAGE, re.MULTILINE)
TERMS = [row[0] for row in ROWS]


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[*`]", "", text)).lower()


def names(term: str) -> list[str]:
    """A term and what else it is called: behind a comma, unless the whole is code."""
    return [plain(term)] if re.fullmatch(r"`[^`]+`", term) else plain(term).split(", ")


def section(path: Path, anchor: str) -> str:
    """What stands under a heading, prose and code, up to the next heading of its level or above."""
    found, level = "", None
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        pieces = ["".join(cell["source"])]
        if cell["cell_type"] == "markdown":
            pieces = re.split(r"^(?=#+ )", pieces[0], flags=re.MULTILINE)
        for piece in pieces:
            heading = cell["cell_type"] == "markdown" and re.match(r"(#+) +(.+?)\s*$", piece, re.MULTILINE)
            if heading and level is not None and len(heading[1]) <= level:
                return found
            if heading and re.sub(r"[*`]", "", heading[2]).replace(" ", "-") == anchor:
                level = len(heading[1])
            if level is not None:
                found += piece + "\n"
    return found


def test_every_line_of_the_table_is_a_term():
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert len(ROWS) == len(lines) - 2 > 100


def test_terms_are_in_alphabetical_order():
    order = [re.sub(r"[^a-z0-9]+", " ", plain(term)).strip() for term in TERMS]
    assert order == sorted(order)


def test_no_term_occurs_twice():
    every = [name for term in TERMS for name in names(term)]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("term, meaning, link", ROWS, ids=TERMS)
def test_a_term_has_a_plain_sentence_and_a_section_that_has_the_term(term, meaning, link):
    assert meaning.endswith(".") and not list(reasons(meaning))
    ((name, anchor),) = links(link)
    assert anchor in anchors(NOTEBOOKS / name), f"{name} has no heading {anchor!r}"
    text = plain(section(NOTEBOOKS / name, anchor))
    assert any(called in text for called in names(term)), f"not in {name}#{anchor}"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_opening_of_a_notebook_leads_to_the_words_and_to_help(path):
    opening = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"])
    pages = {"glossary.md", "troubleshooting.md"} | ({"cheatsheet.md"} if path.stem.startswith("00") else set())
    assert pages <= {name for name, _ in links(opening)}
