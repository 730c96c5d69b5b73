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
TO_QUOTE = {
    "“With enough layers, every pixel sees all pixels before it.”",
    "“Training builds on its own guesses.”",
    "“Training is slow, because the pixels come one after the other.”",
    "“After `ToTensor`, multiply by 255 and call `.long()`.”",
    "“3.5 bits per dimension is a good (or a bad) score.”",
    "“Trained weights are of no use for pictures of another kind.”",
    "“The loss falls, so the network uses its input.”",
    "“PixelCNN predicts the grey value of each pixel.”",
    "“A loss that is too good means overfitting.”",
    "“Overfitting shows in the samples.”",
    "“The nearest training image shows whether a model copies.”",
    "“Against overfitting, a model needs dropout.”",
    "“A strange image gets a low likelihood.”",
    "“It cannot start from an all-zero image without biasing the result.”",
    "“A sample of 28 × 28 pixels takes 784 forward passes.”",
    "“Pixels must be drawn one after the other.”",
    "“A fast sampler is an approximation.”",
    "“A GPU speeds up sampling.”",
    "“Argmax gives the most likely image.”",
    "“The most likely image is the best one that the model knows.”",
    "“Fewer bits per dimension, better samples.”",
    "“A lower temperature repairs bad samples.”",
    "“Sampling is random, so two samplers cannot be compared.”",
    "“PixelCNN can fill in any missing part of an image.”",
    "“Blank samples mean that the model has not learned anything.”",
    "“Shifted convolutions can replace masked ones in PixelCNN++.”",
    "“A shifted convolution is another operation than a masked one.”",
    "“Shifted networks reach worse likelihoods.”",
    "“The mask `[[1,1,0],[1,1,0],[1,1,0]]` makes a 3×3 convolution causal.”",
    "“Shift by one column, and a convolution is causal.”",
    "“The impulse response shows what a pixel sees.”",
    "“`np.convolve` does what a convolution layer does.”",
    "“It does not matter whether the image or the output is shifted.”",
    "“A masked layer and a shifted one start alike.”",
    "“With weight normalisation, the mask may come last.”",
    "“`weight.data *= mask` after each step is as good as a mask in `forward`.”",
    "“Weight decay on masked weights changes training.”",
    "“For a convolution of stride 2, where to pad is a matter of taste.”",
    "“Masks waste half of the work, so shifted convolutions are twice as fast.”",
    "“Compare generative models by the likelihood of what they generate.”",
    "“A softmax knows that 140 lies between 139 and 141.”",
    "“The teeth in a softmax's predictions are noise.”",
    "“Against NaN in the mixture's loss, put a floor under the probability.”",
    "“`torch.where` keeps infinities out.”",
    "“PixelCNN++ sees all earlier pixels.”",
    "“Short-cuts are there to help the gradients.”",
    "“A colour pixel takes three passes.”",
    "“A mixture of logistics is a better head than a softmax.”",
    "“PixelCNN++ with masked convolutions has a worse likelihood.”",
    "“Drawing pixels in parallel needs an approximation.”",
    "“PixelCNN is unusual: most models work on the whole image at once.”",
    "“An autoregressive model needs masks.”",
    "“Pixels that are drawn together are independent.”",
    "“A coarse-to-fine model works at low resolution first, so it must blur.”",
    "“With an independence assumption, the likelihood is only an approximation.”",
    "“A model with fewer bits per dimension has the better idea of the whole.”",
    "“A fourteenth of the turns, a fourteenth of the time.”",
    "“Attention sees the whole image.”",
    "“`is_causal=True` makes a model causal.”",
    "“Mask with −10⁹ instead of −∞, and nothing can go wrong.”",
    "“Self-attention generates in parallel.”",
    "“A cache of keys and values is an approximation.”",
    "“Attention knows where things are.”",
    "“An attention map shows what a prediction depends on.”",
    "“A fused attention kernel removes the quadratic cost.”",
    "“PixelCNN is unusual, most models work on the whole image.”",
    "“A hundred test images are too few to tell two models apart.”",
    "“The newer the PixelCNN, the better.”",
}


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
