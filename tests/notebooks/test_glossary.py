"""The glossary is sorted, names every term once, and leads to a section that has the term."""

import re

import pytest
from sections import NOTEBOOKS, pieces, section

from tools.hard_to_read import reasons

PAGE = (NOTEBOOKS / "glossary.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \| \[[^]]+\]\((\w+\.ipynb)#(\S+)\) \|$", PAGE, re.MULTILINE)
TERMS = [row[0] for row in ROWS]


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"[*`]", "", text)).lower()


def names(term: str) -> list[str]:
    """A term and what else it is called: behind a comma, unless the whole is code."""
    return [plain(term)] if re.fullmatch(r"`[^`]+`", term) else plain(term).split(", ")


def test_every_line_of_the_table_is_a_term():
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert len(ROWS) == len(lines) - 2 > 100


def test_terms_are_in_alphabetical_order():
    order = [re.sub(r"[^a-z0-9]+", " ", plain(term)).strip() for term in TERMS]
    assert order == sorted(order)


def test_no_term_occurs_twice():
    every = [name for term in TERMS for name in names(term)]
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("term, meaning, notebook, anchor", ROWS, ids=TERMS)
def test_a_term_has_a_plain_sentence_and_a_section_that_has_the_term(term, meaning, notebook, anchor):
    assert meaning.endswith(".") and not list(reasons(meaning))
    found = section(NOTEBOOKS / notebook, anchor)
    text = plain("\n".join([anchor.replace("-", " "), found.prose, *found.code]))
    assert any(called in text for called in names(term)), f"not in {notebook}#{anchor}"


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_opening_of_a_notebook_leads_to_the_words_and_to_help(path):
    opening = "".join(part.prose for part in pieces(path)[:2])
    for page in ("glossary.md", "troubleshooting.md", *["cheatsheet.md"] * path.stem.startswith("00")):
        assert f"]({page})" in opening
