"""Every number in the prose is one that a reader can find: printed beside it, taken from a record, or quoted.

A number with two decimals or more stands in the code or the output of its section (in *What to remember*, of the whole
notebook), rounded as the text rounds it. Where it comes from a record or a card, it is followed by where, in a comment
that no page shows: `2.83<!-- card("plusplus-fashion-mnist")["test_bits_per_dim"] -->`. The comment is evaluated.
A paragraph or table whose numbers are quoted or made up says so: `<!-- quoted: table 1 of the paper linked here -->`.
"""

import math
import re

import pytest
from sections import NOTEBOOKS, sections

import pixelhelpers as ph

NUMBER = re.compile(r"(?<![\w.,/:-])(\d[\d,]*\.\d{2,})(?![\w.]*\d)(\*\*| %)?(?:<!-- (?!quoted)(.+?) -->)?")
LITERAL = re.compile(r"\d[\d,]*\.?\d*(?:e-?\d+)?")
NOT_PROSE = re.compile(r"^```.*?^```|\$\$.*?\$\$|\$[^$\n]*\$|\]\([^)]*\)|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def card(name: str) -> dict:
    return ph.load_pretrained(name).card


def numbers_in(text: str) -> list[float]:
    return [float(literal.replace(",", "").rstrip(".")) for literal in LITERAL.findall(text)]


def rounds_to(value: float, number: str) -> bool:
    number = number.replace(",", "")
    half = 0.5 * 10 ** -len(number.partition(".")[2])
    return abs(abs(value) - float(number)) <= half * (1 + 1e-9)


def unfounded(prose: str, shown: str) -> list[str]:
    """The numbers of a text that neither stand in what is shown nor carry what they are."""
    found, values = [], numbers_in(shown)
    for block in re.split(r"\n\s*\n", prose):
        if "<!-- quoted: " in block:
            continue
        # A comment may hold backticks or brackets: the numbers with theirs are taken out first.
        for number, unit, source in NUMBER.findall(NOT_PROSE.sub(" ", block)):
            if source:
                value = eval(source, {"record": ph.record, "card": card, "math": math})
                holds = rounds_to(100 * value if unit == " %" else value, number)
            else:
                holds = any(rounds_to(value, number) for value in values)
            if not holds:
                found.append(f"{number} in {' '.join(block.split())[:120]!r}")
    return found


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_numbers_in_the_prose_are_shown_recorded_or_quoted(path):
    parts = sections(path)
    everything = "\n".join(part.printed + "\n".join(part.code) for part in parts)
    for part in parts:
        shown = everything if part.anchor == "What-to-remember" else part.printed + "\n" + "\n".join(part.code)
        if wrong := unfounded(part.prose, shown):
            pytest.fail(f"nothing shows these numbers of {part.anchor}:\n" + "\n".join(wrong), pytrace=False)


def test_a_number_that_nothing_shows_is_found():
    shown = "It scored 2.8351 bits."
    assert not unfounded("About 2.84, or 2.835.", shown)
    assert unfounded("About 2.83.", shown)
    assert unfounded("12.84 bits", shown)
    assert not unfounded("Theirs is 3.14. <!-- quoted: their table 1 -->", shown)
    assert not unfounded("It was 0.50<!-- 1 / 2 --> then.", shown)
    assert unfounded("It was 0.51<!-- 1 / 2 --> then.", shown)
    assert not unfounded("It was **3.50 %**, `9.99` and $7.77$.", "x = 3.5")


def test_a_record_and_a_card_can_be_named():
    bits = card("gated-digits")["test_bits_per_dim"]
    assert not unfounded(f'Here {bits:.3f}<!-- card("gated-digits")["test_bits_per_dim"] -->.', "")
    assert unfounded(f'Here {bits + 0.01:.3f}<!-- card("gated-digits")["test_bits_per_dim"] -->.', "")
