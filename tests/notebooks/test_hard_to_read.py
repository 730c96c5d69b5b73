"""What stops a reader is found, what does not is left alone, and no page of the series gets harder to read."""

import json
from pathlib import Path

import pytest

from tools import hard_to_read
from tools.hard_to_read import AIM, HABITS, ROOT, reasons, sentences, share

# A habit, and how the same is said.
EXAMPLES = {
    "the own": ("The mask hides the own row.", "The mask hides the pixel's own row."),
    "at one layer": ("Attention sees all of it at one layer.", "Attention sees all of it in a single layer."),
    "inside of": ("It is computed inside of the model.", "It is computed inside the model."),
    "in the small": ("In detail, and in the small, it is right.", "At a small scale it is right."),
    "what has": ("What shape has the mask of this layer?", "What shape does the mask of this layer have?"),
    "how looks": ("Can you say how looks the mask?", "Can you say what the mask looks like?"),
    "look what": ("We look what the pixel costs.", "We see what the pixel costs."),
    "anew": ("Training is begun anew with other labels.", "Training starts again with other labels."),
    "negation first": ("Nor is it a draw from the model.", "It is not a draw from the model either."),
    "degree first": ("So small is the network that it fits.", "The network is so small that it fits."),
    "place first": ("At the centre lie the three values.", "The three values lie at the centre."),
    "object first": ("This we have seen in notebook two.", "We have seen this in notebook two."),
    "of which": ("It draws from models of which nothing is known.", "It draws from any model, even an unknown one."),
    "inverted if": ("Were it the mask alone, depth would help.", "If it were the mask alone, depth would help."),
    "who does": ("Who takes this for a view sees the future.", "If you take this for a view, it shows the future."),
    "is to be": ("The lower half is to be painted.", "The model must paint the lower half."),
    "for it": ("Black costs nothing, for it is everywhere.", "Black costs nothing because it is everywhere."),
    "the one, the other": (
        "The first needs the one, all later ones the other.",
        "The first needs A, the others need B.",
    ),
    "the latter": ("The latter draws faster than PixelCNN.", "The multiscale model draws faster than PixelCNN."),
    "that is": ("All of it, that is, both rows, comes later.", "All of it comes later: both rows do."),
    "as far as": ("It takes 55, as far as the noise shows it.", "It takes about 55, and the noise hides more."),
    "that that": ("We know that that pixel is black.", "We know that this pixel is black."),
}
LONG = "The model reads the picture " + "and the next one " * 8 + "in a single pass."
FAULTS = {
    "words": (LONG, "The model reads the picture in a single pass."),
    "words before the subject": (
        "When the canvas of the last picture that you drew is still black, search for a leak.",
        "The canvas may still be black. Then search for a leak.",
    ),
    "clause in clause": (
        "The model that you trained knows what stands where the pixel which you ask for is drawn if it leaks.",
        "The model knows the pixel if it leaks.",
    ),
    "two remarks in brackets": (
        "The mask (of the first layer) hides the pixel (and all later ones).",
        "The mask of the first layer hides the pixel (and all later ones).",
    ),
    "words in brackets": (
        "The mask hides it (the first layer must not see the pixel that it has to predict).",
        "The mask hides it. The first layer must not see the pixel.",
    ),
}
# The shares that were there when this was written, in per cent. They may only go down: lower a number when you can, and
# drop the line of a page that has reached the aim.
RECORDED = {}
PAGES = sorted([*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "notebooks").glob("*.md"), ROOT / "README.md"])


def test_every_habit_has_an_example():
    assert set(EXAMPLES) == set(HABITS)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_habit_is_found_and_its_cure_is_not(name):
    habit, cure = EXAMPLES[name]
    assert any(why.startswith(f"“{name}”") for why in reasons(habit))
    assert not list(reasons(cure))


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_too_much_at_once_is_found_and_its_cure_is_not(fault):
    too_much, cure = FAULTS[fault]
    assert any(fault in why for why in reasons(too_much))
    assert not [why for sentence in sentences(cure) for why in reasons(sentence)]


@pytest.mark.parametrize(
    "right",
    [
        "Which step has the most weights of all?",
        "What has the network learned about edges?",
        "So this is how a model starts from nothing.",
        "It contains the pixels that are to be predicted.",
        "In this notebook the loss is the negative logarithm.",
        "Who else can see the pixel to the right?",
    ],
)
def test_what_only_looks_like_a_habit_is_left_alone(right):
    assert not list(reasons(right))


def test_reads_sentences_and_nothing_else():
    markdown = """# A heading that is the own of nobody

The first layer is `nn.Conv2d`. It sees (Nobody et al. 2016, section 2.2 and figure 1, and the whole appendix) one row.
[A link to a page](https://example.org/which) is its text, and $x_1$ is one word.

```python
the own = "code that nobody reads as a sentence"
```

| Claim in a table of two | **False.** It is not so at all. |
|---|---|

## Further reading

- A. Nobody, *The own of a long title of a paper that has been published somewhere in the world*, 2016.

**Next**: the second notebook.
"""
    assert list(sentences(markdown)) == [
        "The first layer is Term.",
        "It sees one row.",
        "A link to a page is its text, and Term is one word.",
        "Claim in a table of two",
        "It is not so at all.",
        "Next: the second notebook.",
    ]


def test_says_file_cell_reason_and_sentence(tmp_path, capsys):
    path = tmp_path / "00_a.ipynb"
    cells = [("code", "the own = 1"), ("markdown", "All is well here. The mask hides the own row.")]
    path.write_text(json.dumps({"cells": [{"cell_type": kind, "source": [source]} for kind, source in cells]}))
    hard_to_read.main([str(path)])
    assert capsys.readouterr().out == "00_a.ipynb[1]: “the own”: its own, or say whose: The mask hides the own row.\n"
    assert share(path) == 50
    hard_to_read.main(["--share", str(path)])
    assert "50.0 % of    2 sentences" in capsys.readouterr().out


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_no_page_gets_harder_to_read(path: Path):
    assert share(path) <= RECORDED.get(path.stem, AIM), f"see python tools/hard_to_read.py {path.relative_to(ROOT)}"


def test_what_is_recorded_is_still_above_the_aim():
    names = {path.stem: path for path in PAGES}
    reached = [name for name in RECORDED if share(names[name]) <= AIM]
    assert not reached, f"these have reached {AIM} %: drop their lines"
