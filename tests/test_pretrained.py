"""What must hold of the weights that come with the package: whole, small, honest, and as good as their records say."""

import itertools
import re
from functools import lru_cache
from pathlib import Path

import pytest
import torch

import pixelhelpers as ph
from pixelhelpers import rewriting
from pixelhelpers.models.pretrained import PRETRAINED

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
NAMES = ph.list_pretrained()
CONDITIONAL = [name for name in NAMES if not name.startswith("pixelcnn")]


def some_images(data: str) -> ph.Images:
    try:
        return ph.load_images(data, download=False, fallback=False)
    except ph.DataError as error:
        pytest.skip(f"needs {data} in $PIXELHELPERS_DATA or data/: {error}")


def test_every_model_has_weights_for_clothes_and_for_digits():
    assert {name.partition("-")[2] for name in NAMES} == {"fashion-mnist", "digits"}
    assert {name.partition("-")[0] for name in NAMES} == {
        "pixelcnn",
        "gated",
        "plusplus",
        "multiscale",
        "attention",
    }
    assert len(NAMES) == 10


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_small_and_have_a_record(name):
    megabytes = 6 if name.startswith("plusplus") else 4
    assert (PRETRAINED / name / "model.safetensors").stat().st_size <= 1_000_000 * megabytes
    model = ph.load_pretrained(name)
    card = model.card
    assert card["data"] == name.partition("-")[2]
    assert card["parameters"] == sum(weight.numel() for weight in model.parameters())
    assert f"--model {name.partition('-')[0]} " in card["command"] and "/" not in card["command"].replace("runs/", "")
    assert [row["epoch"] for row in card["epochs"]] == list(range(1, len(card["epochs"]) + 1))
    assert abs(card["test_bits_per_dim"] - min(row["valid"] for row in card["epochs"])) < 0.1


@pytest.mark.parametrize("name", NAMES)
def test_readme_shows_the_recorded_scores(name):
    card = ph.load_pretrained(name).card
    passes, *_ = training(card)
    [row] = re.findall(rf"^\| `{name}`.*", README, re.MULTILINE)
    sets = [row["frechet"] for row in ph.record("quality")["rows"] if row["name"] == name]
    score, far = card["test_bits_per_dim"], sum(sets) / len(sets)
    assert row.endswith(f" | {card['parameters']:,} | {passes:.1f} | **{score:.3f}** | {far:.1f} |")


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_benchmarks_shows_the_recorded_trainings(name):
    card = ph.load_pretrained(name).card
    passes, batch, rate = training(card)
    [row] = re.findall(rf"^\| \[`{name}`\].*", BENCHMARKS, re.MULTILINE)
    valid = min(epoch["valid"] for epoch in card["epochs"])
    start = f" | {batch}, {rate:g} | {passes:.1f} | {card['wall_clock_seconds'] / 60:.0f} | {valid:.3f} | "
    assert start in row
    aim = row.partition(start)[2].removesuffix(" |")
    assert aim == "none" or aim.endswith(", missed") == (valid > float(aim.partition(",")[0]))


def training(card: dict) -> tuple[float, int, float]:
    """Passes over the training images, images a step, highest rate."""
    options = card["command"].split()
    given = dict(itertools.pairwise(options))
    batch, rate = int(given.get("--batch-size", 32)), float(given.get("--lr", 1e-3))  # the defaults of those days
    assert max(row["lr"] for row in card["epochs"]) <= rate
    return card["epochs"][-1]["step"] * batch / card["training_images"], batch, rate


# Of 500 test images, evenly spread, in bits/dim: whatever is rewritten around the weights, they mean what they meant.
SCORES = {
    "attention-digits": 1.1060101,
    "attention-fashion-mnist": 2.637459,
    "gated-digits": 1.0781974,
    "gated-fashion-mnist": 2.6848168,
    "multiscale-digits": 1.1641157,
    "multiscale-fashion-mnist": 2.8911743,
    "pixelcnn-digits": 1.000331,
    "pixelcnn-fashion-mnist": 2.7317447,
    "plusplus-digits": 1.1194032,
    "plusplus-fashion-mnist": 2.6720962,
}


@lru_cache
def score(name: str) -> float:
    model = ph.load_pretrained(name)
    images = some_images(model.card["data"])
    spread = slice(None, None, max(1, len(images.test) // 500))
    return ph.evaluate(model, images.test[spread], images.test_labels[spread])


@pytest.mark.parametrize("name", NAMES)
def test_weights_mean_what_they_meant(name):
    assert score(name) == pytest.approx(SCORES[name], abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_weights_score_what_their_record_says(name):
    """The images chosen are a little easier than all, by the same amount for every model."""
    beyond, plain = (
        score(each) - ph.load_pretrained(each).card["test_bits_per_dim"]
        for each in (name, f"pixelcnn-{name.partition('-')[2]}")
    )
    assert abs(beyond) < 0.06 and beyond == pytest.approx(plain, abs=0.01)


def test_later_models_are_better_than_the_plain_one():
    plain, gated, plusplus, attention = (
        ph.load_pretrained(f"{kind}-fashion-mnist").card["test_bits_per_dim"]
        for kind in ("pixelcnn", "gated", "plusplus", "attention")
    )
    assert gated < min(plain, 2.88) and plusplus < 2.95 and attention < 2.95


def test_drawing_many_pixels_at_once_costs_bits_but_not_many():
    """The price of independence within a group; still ahead of what looks at a pixel's neighbour only."""
    plain, multiscale = (
        ph.load_pretrained(f"{kind}-fashion-mnist").card["test_bits_per_dim"] for kind in ("pixelcnn", "multiscale")
    )
    assert plain < multiscale < 3.15


@pytest.mark.parametrize("name", CONDITIONAL)
def test_probabilities_of_a_shipped_model_sum_to_one_in_every_class(name):
    """Over all 65,536 images of two pixels, with all 256 levels."""
    model = ph.load_pretrained(name)
    if isinstance(model, ph.MultiscalePixelCNN):
        pytest.skip("its smallest image has 4 x 4 pixels; test_models.py sums over all of 2 x 2 with fewer levels")
    for label in range(10) if name == "gated-fashion-mnist" else (0, 9):
        assert ph.total_probability(model, (1, 2), levels=256, label=label) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("multiscale")])
def test_in_a_shipped_multiscale_model_every_group_is_normalised_and_sees_earlier_ones_only(name):
    model = ph.load_pretrained(name)
    ph.check_causal(model, (1, 8, 8))
    images = ph.load_images("digits").test[:4]
    with torch.no_grad():
        total = model.double().predict(images, label=torch.arange(4)).pmf().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total))
    assert len(model.order((28, 28)).unique()) <= 60


@pytest.mark.parametrize("name", [name for name in CONDITIONAL if not name.startswith("multiscale")])
def test_a_shipped_model_after_the_plain_one_is_causal_and_has_no_blind_spot(name):
    model = ph.load_pretrained(name)
    ph.check_causal(model, (1, 5, 5))
    assert not ph.blind_spot(model, at=(14, 12)).any()


@pytest.mark.parametrize("name", ["plusplus-fashion-mnist", "plusplus-digits"])
def test_a_shipped_plusplus_model_may_as_well_be_masked(name):
    shifted = ph.load_pretrained(name).double()
    masked = rewriting.rewritten(shifted, rewriting.SHIFTED, rewriting.to_masked)
    assert not any(isinstance(part, rewriting.SHIFTED) for part in masked.modules())
    images, label = ph.load_images("digits").test[:4], torch.arange(4)
    torch.testing.assert_close(masked.log_prob(images, label), shifted.log_prob(images, label), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", [name for name in CONDITIONAL if name.endswith("digits")])
def test_samples_of_a_class_are_the_same_for_the_same_seed_and_of_that_class(name):
    model, label = ph.load_pretrained(name), torch.arange(10)
    one = ph.sample(model, 10, label=label, seed=3, progress=False)
    assert torch.equal(one, ph.sample(model, 10, label=label, seed=3, progress=False))
    assert torch.equal(one[4:5], ph.sample(model, 5, label=label[:5], seed=3, progress=False)[4:])
    assert not torch.equal(one, ph.sample(model, 10, label=label, seed=4, progress=False))
    assert not torch.equal(one, ph.sample(model, 10, label=label.flip(0), seed=3, progress=False))


@pytest.mark.parametrize(("label", "words"), [(None, "label is missing"), (10, "label runs from 10"), (-1, "from -1")])
def test_a_class_that_is_missing_or_unknown_is_refused_before_drawing(label, words):
    with pytest.raises(ValueError, match=words):
        ph.sample(ph.load_pretrained("gated-digits"), 2, label=label, progress=False)
