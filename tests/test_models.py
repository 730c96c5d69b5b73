"""What every model promises: shapes, numbers that are probabilities, labels, files."""

import dataclasses
import json
import math
import os
import pickle
import random
import re
import shutil
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import pixelhelpers as ph
from pixelhelpers.distributions import DiscretizedLogisticMixture
from pixelhelpers.layers import gate
from pixelhelpers.models import (
    GatedPixelCNN,
    MultiscalePixelCNN,
    PixelCNN,
    PixelCNNPlusPlus,
    PixelSNAIL,
    load_pretrained,
    multiscale,
)
from pixelhelpers.models.attention import CausalAttention, positions
from pixelhelpers.models.base import (
    AutoregressiveModel,
    MixtureModel,
    OwnModule,
    SoftmaxModel,
    as_model,
    write_atomically,
)

GREY = {"levels": 5, "hidden": 8, "blocks": 2}
COLOUR = {"levels": 4, "hidden": 12, "blocks": 1, "image_channels": 3}
CLASSES = {**GREY, "classes": 3}


def pixelcnn(**settings):
    torch.manual_seed(0)
    return PixelCNN(**settings).eval()


KINDS = {
    "PixelCNN": PixelCNN,
    "GatedPixelCNN": GatedPixelCNN,
    "PixelCNNPlusPlus": PixelCNNPlusPlus,
    "MultiscalePixelCNN": partial(MultiscalePixelCNN, doublings=1),
    "PixelSNAIL": PixelSNAIL,
    "PixelSNAIL, softmax": partial(PixelSNAIL, components=None),
}


@pytest.fixture(params=KINDS)
def make(request):
    """Builds a model: a test that asks for it holds of every one."""

    def build(**settings):
        torch.manual_seed(0)
        return KINDS[request.param](**settings).eval()

    return build


def draw(model, count=4, height=6, width=5):
    """Images of a size that the model takes: one of a single doubling takes even sides."""
    if isinstance(model, MultiscalePixelCNN):
        height, width = 2 * height, 2 * width
    shape = (count, model.image_channels, height, width)
    return torch.randint(model.levels, shape, generator=torch.Generator().manual_seed(1))


# -- shapes and numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize("height, width", [(6, 5), (1, 1), (1, 9)])
def test_parameters_and_predictions_have_the_shape_of_the_images(make, height, width):
    grey, colour = make(**GREY), make(**COLOUR)
    mixture = isinstance(grey, MixtureModel) and grey.settings["components"] is not None
    for model, shape in zip((grey, colour), ((30,), (100,)) if mixture else ((5,), (4, 3)), strict=True):
        x = draw(model, 2, height, width)
        assert model(x).shape == (2, *shape, *x.shape[-2:])
        assert model.predict(x).batch_shape == x.shape
        assert model.log_prob(x).shape == (2,)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32, torch.float64])
@pytest.mark.parametrize("settings", [GREY, COLOUR])
def test_images_of_any_type_give_the_same_likelihood(make, settings, dtype):
    model = make(**settings)
    x = draw(model)
    assert torch.equal(model(x.to(dtype)), model(x))
    assert torch.equal(model.log_prob(x.to(dtype)), model.log_prob(x))


def test_a_model_answers_in_its_own_precision(make):
    model = make(**GREY)
    x = draw(model)
    single = model.log_prob(x)
    double = model.double().log_prob(x)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    torch.testing.assert_close(single, double.float(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("levels", [2, 3, 256])
def test_levels_are_scaled_evenly_onto_minus_one_to_one(make, levels):
    model = make(levels=levels, hidden=2, blocks=1).double()
    x = torch.arange(levels).view(1, 1, 1, levels)
    expected = torch.linspace(-1, 1, levels, dtype=torch.float64)
    torch.testing.assert_close(model.scale(x).flatten(), expected)


@pytest.mark.parametrize("settings", [GREY, COLOUR, CLASSES])
def test_predict_gives_probabilities_and_log_prob_is_their_sum(make, settings):
    model = make(**settings).double()
    x, label = draw(model), 1 if "classes" in settings else None
    predicted = model.predict(x, label)
    pmf = predicted.pmf()
    assert pmf.shape == (*x.shape, model.levels) and (pmf >= 0).all()
    torch.testing.assert_close(pmf.sum(-1), torch.ones(x.shape, dtype=torch.float64))
    chosen = pmf.gather(-1, x.unsqueeze(-1)).squeeze(-1).log()
    torch.testing.assert_close(predicted.log_prob(x), chosen)
    torch.testing.assert_close(model.log_prob(x, label), chosen.flatten(1).sum(1))
    assert (model.log_prob(x, label) < 0).all()


@pytest.mark.parametrize("settings", [GREY, COLOUR])
def test_log_prob_never_exceeds_zero_even_of_a_model_that_is_certain(make, settings):
    model = make(**settings)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "head." in name:
                parameter *= 300
    assert (model.log_prob(draw(model, 50)) <= 0).all()


@pytest.mark.parametrize("settings", [GREY, COLOUR])
def test_predict_at_one_value_equals_that_value_of_the_whole_prediction(make, settings):
    model = make(**settings).double()
    x = draw(model)
    whole = model.predict(x).pmf()
    for row, column, channel in [(0, 0, 0), (5, 4, model.image_channels - 1), (2, 3, 0)]:
        part = model.predict(x, at=(row, column, channel))
        assert part.batch_shape == (4,)
        torch.testing.assert_close(part.pmf(), whole[:, channel, row, column])


@pytest.mark.parametrize("settings", [GREY, COLOUR, {**GREY, "dropout": 0.5}])
def test_an_image_is_scored_the_same_alone_and_in_a_batch(make, settings):
    model = make(**settings).double()
    x = draw(model, 5)
    alone = torch.cat([model.log_prob(image[None]) for image in x])
    torch.testing.assert_close(model.log_prob(x), alone)


@pytest.mark.parametrize("kind", [PixelCNN, GatedPixelCNN, KINDS["MultiscalePixelCNN"], KINDS["PixelSNAIL, softmax"]])
def test_the_likelihood_of_a_constant_model_is_known(kind):
    model = kind(**GREY).double()
    for name, parameter in model.named_parameters():
        if "head." in name:
            nn.init.zeros_(parameter)
    x = draw(model)
    expected = torch.full((4,), -x[0].numel() * math.log(5), dtype=torch.float64)
    torch.testing.assert_close(model.log_prob(x), expected)


def test_gradients_reach_every_parameter(make):
    model = make(**CLASSES)
    model.log_prob(draw(model, 20), torch.arange(20) % 3).sum().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


def test_the_order_is_raster_then_channel(make):
    if isinstance(make(**GREY), MultiscalePixelCNN):
        pytest.skip("draws in an order of its own")
    assert make(**GREY).order((1, 2, 3)).tolist() == [[[0, 1, 2], [3, 4, 5]]]
    assert make(**COLOUR).order((3, 1, 2)).tolist() == [[[0, 3]], [[1, 4]], [[2, 5]]]
    assert torch.equal(make(**COLOUR).order((2, 3)), make(**COLOUR).order((3, 2, 3)))


def test_images_that_were_scaled_already_are_refused(make):
    model = make(**GREY)
    with pytest.raises(ValueError, match=r"fractions such as 0\.\d+: give levels, integers from 0 to 4"):
        model.log_prob(draw(model) / 5)


def test_a_model_without_any_class_is_refused(make):
    with pytest.raises(ValueError, match="classes is 0: give at least 1, or None"):
        make(**GREY, classes=0)


@pytest.mark.parametrize("shape", [(4, 6, 5), (4, 3, 6, 5), (4, 1, 6)])
def test_images_of_another_shape_are_refused(make, shape):
    with pytest.raises(ValueError, match=r"images have shape .*: give \[N, 1, height, width\]"):
        make(**GREY)(torch.zeros(shape, dtype=torch.long))


@pytest.mark.parametrize(
    "setting, words",
    [
        ({"levels": 1}, "levels is 1: give at least 2"),
        ({"levels": 257}, "levels is 257: give at most 256"),
        ({"levels": 2.5}, "levels is 2.5: give a whole number"),
        ({"dropout": 1.0}, "dropout is 1.0: give a number from 0 to below 1"),
        ({"blocks": -1}, "blocks is -1"),
        ({"image_channels": 0}, "image_channels is 0"),
        ({"image_size": 0}, "image_size is 0"),
        ({"hidden": 7}, "hidden is 7: give an even number"),
        ({"hidden": 4, "image_channels": 3}, "hidden is 4: give an even number of at least 6"),
    ],
)
def test_bad_settings_are_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        PixelCNN(**setting)


@pytest.mark.parametrize(
    "setting, words",
    [
        ({"levels": 1}, "levels is 1: give at least 2"),
        ({"blocks": 0}, "blocks is 0: give at least 1"),
        ({"hidden": 0}, "hidden is 0"),
        ({"hidden": 8, "image_channels": 3}, "hidden is 8: give a multiple of 3"),
    ],
)
def test_bad_settings_of_a_gated_model_are_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        GatedPixelCNN(**setting)


def random_gated(number):
    chance = random.Random(number)
    channels = chance.choice((1, 2, 3))
    torch.manual_seed(number)
    return GatedPixelCNN(
        levels=chance.randint(2, 6),
        image_channels=channels,
        classes=chance.choice((None, 3)),
        hidden=channels * chance.randint(1, 6),
        blocks=chance.randint(1, 4),
        dropout=chance.choice((0.0, 0.5)),
    )


@pytest.mark.parametrize("number", range(8))
def test_gated_models_are_causal_in_space_and_colour(number):
    model = random_gated(number)
    ph.check_causal(model, (model.image_channels, 5, 6))


@pytest.mark.parametrize("number", range(8))
def test_probabilities_of_a_gated_model_sum_to_one_in_every_class(number):
    model = random_gated(number)
    shape = {1: (1, 2, 2), 2: (2, 1, 2), 3: (3, 1, 1)}[model.image_channels]
    for label in range(model.classes or 1):
        total = ph.total_probability(model, shape, model.levels, None if model.classes is None else label)
        assert math.isclose(total, 1, rel_tol=1e-9)


def test_a_vertical_stack_that_is_not_shifted_down_is_caught(monkeypatch):
    monkeypatch.setattr("pixelhelpers.models.gated.shift_down", lambda x: x)
    model = random_gated(0)
    with pytest.raises(ph.CausalityError, match=r"too far to the right|type B"):
        ph.check_causal(model, (model.image_channels, 5, 6))


def test_gates_that_mix_colours_are_caught(monkeypatch):
    torch.manual_seed(0)
    model = GatedPixelCNN(levels=4, image_channels=3, hidden=6, blocks=1)
    ph.check_causal(model, (3, 3, 3))
    monkeypatch.setattr("pixelhelpers.layers.gate", lambda x, image_channels=1: gate(x))
    with pytest.raises(ph.CausalityError, match="channel"):
        ph.check_causal(model, (3, 3, 3))


def random_plusplus(number):
    chance = random.Random(number)
    torch.manual_seed(number)
    model = PixelCNNPlusPlus(
        levels=chance.randint(2, 6),
        image_channels=1 + 2 * (number % 2),
        classes=chance.choice((None, 3)),
        hidden=chance.randint(1, 7),
        blocks=chance.randint(1, 2),
        dropout=chance.choice((0.0, 0.5)),
        components=chance.randint(1, 4),
    ).double()
    with torch.no_grad():
        model.head.weight.mul_(3)  # the components and coefficients of a new model hardly move
    return model.eval()


@pytest.mark.parametrize("number", range(6))
def test_plusplus_models_are_causal_in_space_and_colour(number):
    model = random_plusplus(number)
    ph.check_causal(model, (model.image_channels, *((5, 6), (4, 3))[number % 2]))


@pytest.mark.parametrize("number", range(6))
def test_probabilities_of_a_plusplus_model_sum_to_one_in_every_class(number):
    model = random_plusplus(number)
    levels = min(model.levels, 3) if model.image_channels == 3 else model.levels
    if levels < model.levels:
        model = PixelCNNPlusPlus(**{**model.settings, "levels": levels}).double()
    shape = {1: (1, 2, 2), 3: (3, 1, 2)}[model.image_channels]
    for label in range(model.classes or 1):
        total = ph.total_probability(model, shape, levels, None if model.classes is None else label)
        assert math.isclose(total, 1, rel_tol=1e-9)


def test_a_pixel_of_plusplus_sees_all_earlier_ones_where_every_size_has_a_place():
    model = PixelCNNPlusPlus(levels=4, hidden=6)
    order = model.order((20, 20))[0]
    assert torch.equal(ph.receptive_field(model, at=(12, 8), shape=(1, 20, 20)), order < order[12, 8])


@pytest.mark.parametrize("blocks", [1, 2])
def test_in_between_the_newest_pixels_pass_through_the_full_size_only(blocks):
    """A coarser size knows what lies above and to the left of its upper left pixel, so nothing of an odd row."""
    model = PixelCNNPlusPlus(levels=4, hidden=4, blocks=blocks)
    seen = ph.receptive_field(model, at=(15, 15), shape=(1, 16, 32))
    reach = 4 * blocks + 2
    assert seen[15].nonzero().flatten().tolist() == list(range(15 - reach, 15))
    assert seen[14].nonzero().max() == 15 + reach and seen[:14].all()


def test_the_joint_likelihood_of_a_pixel_is_the_sum_of_its_channels():
    model = random_plusplus(1)
    x, label = draw(model), None if model.classes is None else 1
    expected = model.predict(x, label).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(model.log_prob(x, label), expected)


@pytest.mark.parametrize("moved", ["shift_right", "shift_down"])
def test_an_image_that_is_not_shifted_before_plusplus_is_caught(monkeypatch, moved):
    monkeypatch.setattr(f"pixelhelpers.models.plusplus.{moved}", lambda x: x)
    with pytest.raises(ph.CausalityError, match=r"too far to the right|type B"):
        ph.check_causal(random_plusplus(0), (1, 5, 6))


def test_a_mean_that_moves_with_its_own_channel_is_caught(monkeypatch):
    ph.check_causal(random_plusplus(1), (3, 3, 3))
    right = DiscretizedLogisticMixture._means_given
    monkeypatch.setattr(
        DiscretizedLogisticMixture, "_means_given", lambda self, value: right(self, value) + value[..., None]
    )
    with pytest.raises(ph.CausalityError, match=r"channel order|type B"):
        ph.check_causal(random_plusplus(1), (3, 3, 3))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"hidden": 0}, "hidden is 0"),
        ({"blocks": 0}, "blocks is 0"),
        ({"components": 0}, "components is 0"),
        ({"image_channels": 2}, "give 1 for grey images or 3"),
    ],
)
def test_bad_settings_of_a_plusplus_model_are_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        PixelCNNPlusPlus(**setting)


@pytest.mark.parametrize("kind", [PixelCNNPlusPlus, PixelSNAIL])
def test_means_are_never_computed_in_a_short_format(kind):
    model = kind(**GREY)
    with torch.autocast("cpu", torch.bfloat16):
        assert model(draw(model)).dtype == torch.float32


def random_multiscale(number, **settings):
    chance = random.Random(number)
    channels = chance.choice((1, 2, 3))
    torch.manual_seed(number)
    settings = {
        "levels": chance.randint(2, 4),
        "image_channels": channels,
        "classes": chance.choice((None, 3)),
        "hidden": 2 * channels * chance.randint(1, 3),
        "blocks": chance.randint(1, 2),
        "dropout": chance.choice((0.0, 0.5)),
        "base": 1,
        "doublings": 1 + number % 3,
    } | settings
    return MultiscalePixelCNN(**settings)


@pytest.mark.parametrize("number", range(9))
def test_multiscale_models_are_causal_in_their_own_order(number):
    model = random_multiscale(number)
    side = max(4, model.image_size)
    ph.check_causal(model, (model.image_channels, side, 2 * side if side == 4 else side))


@pytest.mark.parametrize("number", range(8))
def test_probabilities_of_a_multiscale_model_sum_to_one_in_every_class(number):
    channels = 1 + number % 3
    model = random_multiscale(number, image_channels=channels, hidden=4 * channels, levels=(8, 3, 2)[channels - 1])
    model = MultiscalePixelCNN(**{**model.settings, "doublings": 1, "image_size": None})
    for label in range(model.classes or 1):
        total = ph.total_probability(model, (channels, 2, 2), model.levels, None if model.classes is None else label)
        assert math.isclose(total, 1, rel_tol=1e-9)


@pytest.mark.parametrize(("height", "width", "doublings"), [(28, 28, 2), (32, 32, 3), (8, 4, 1), (4, 12, 2)])
def test_a_doubling_takes_three_turns_whatever_the_size(height, width, doublings):
    coarsest = 2**doublings
    for channels in (1, 3):
        model = MultiscalePixelCNN(
            levels=2, hidden=6, blocks=1, image_channels=channels, base=height // coarsest, doublings=doublings
        )
        order = model.order((height, width))
        assert order.shape == (channels, height, width)
        smallest = (height // coarsest) * (width // coarsest)
        assert len(order.unique()) == int(order.max()) + 1 == channels * (smallest + 3 * doublings)
        assert order[:, ::coarsest, ::coarsest].max() == channels * smallest - 1
        newest = order[0, 1::2, 1::2]
        assert (newest == newest[0, 0]).all() and newest[0, 0] == order[0].max()


def test_pixels_of_a_group_are_independent_given_what_was_there():
    model = random_multiscale(1, image_channels=1, levels=4, classes=None, doublings=1).double().eval()
    x = draw(model)
    rank = model.order(x.shape[1:])[0]
    before = model(x)
    for group in (int(rank.max()), int(rank.max()) - 2):
        changed = torch.where(rank == group, (x + 1) % 4, x)
        same = rank <= group
        torch.testing.assert_close(model(changed)[..., same], before[..., same])
    assert not torch.allclose(model(changed), before)  # the groups after it do see it


@pytest.mark.parametrize("planted", ["itself", "a later one", "its own channel"])
def test_a_group_that_sees_too_much_is_caught(planted, monkeypatch):
    model = random_multiscale(2, image_channels=3, hidden=6, doublings=1, base=2, image_size=4)
    ph.check_causal(model, (3, 4, 4))
    if planted == "its own channel":
        model.groups[0][1].earlier.mask[:] = True
    else:
        planes, swap = multiscale._planes, {"itself": 1, "a later one": 2}[planted]
        first = lambda x: [planes(x)[swap], *planes(x)[1:]]  # noqa: E731
        monkeypatch.setattr(multiscale, "_planes", first)
    with pytest.raises(ph.CausalityError):
        ph.check_causal(model, (3, 4, 4))


@pytest.mark.parametrize("settings", [{}, {"base": 8}, {"doublings": 3, "image_size": 32}, {"base": 4, "doublings": 3}])
def test_side_base_and_doublings_fit_each_other(settings):
    model = MultiscalePixelCNN(hidden=4, blocks=1, **settings)
    assert model.image_size == model.settings["base"] * 2 ** model.settings["doublings"]
    assert MultiscalePixelCNN(**model.settings).settings == model.settings


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"hidden": 0}, "hidden is 0"),
        ({"hidden": 5}, "hidden is 5: give an even number"),
        ({"hidden": 8, "image_channels": 3}, "hidden is 8: give an even multiple of the 3 channels"),
        ({"base": 2.5}, "base is 2.5: give a whole number"),
        ({"image_size": -4}, "image_size is -4: .* give 4,"),
        ({"blocks": 0}, "blocks is 0"),
        ({"doublings": 0}, "doublings is 0: give at least 1"),
        ({"base": 0}, "base is 0: give at least 1"),
        ({"image_size": 30}, "image_size is 30: with doublings=2 sides are multiples of 4; give 28 or 32"),
        ({"image_size": 28, "base": 8}, "image_size is 28, but a base of 8 doubled 2 times is 32"),
        ({"image_size": 2}, "give 4"),
    ],
)
def test_bad_settings_of_a_multiscale_model_are_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        MultiscalePixelCNN(**setting)


def test_sizes_that_do_not_fit_are_refused_with_those_that_would(tmp_path):
    model = MultiscalePixelCNN(hidden=4, blocks=1)
    x = torch.zeros(2, 1, 28, 30, dtype=torch.uint8)
    digits = ph.load_images("digits")
    odd = dataclasses.replace(digits, train=digits.train[..., :-1], valid=digits.valid[..., :-1])
    for use in (
        lambda: model(x),
        lambda: model.log_prob(x),
        lambda: model.order((28, 30)),
        lambda: ph.evaluate(model, x),
        lambda: ph.sample(model, 1, shape=(28, 30), progress=False),
        lambda: ph.sample(model, 1, shape=(28, 30), method="fixed-point", progress=False),
    ):
        with pytest.raises(ValueError, match=r"28 x 30 pixels: .* give 28 or 32 instead of 30"):
            use()
    with pytest.raises(ValueError, match="give 24 or 28 instead of 27"):
        ph.fit(model, odd, epochs=1, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def random_snail(number, **settings):
    chance = random.Random(number)
    torch.manual_seed(number)
    heads, mixture = chance.randint(1, 3), number % 2
    model = PixelSNAIL(
        **{
            "levels": chance.randint(2, 6),
            "image_channels": chance.choice((1, 3) if mixture else (1, 2, 3)),
            "classes": chance.choice((None, 3)),
            "hidden": heads * chance.randint(3, 5),
            "blocks": chance.randint(1, 2),
            "dropout": chance.choice((0.0, 0.5)),
            "heads": heads,
            "components": chance.randint(1, 4) if mixture else None,
        }
        | settings
    ).double()
    with torch.no_grad():
        for weight in model.parameters():  # a new model hardly listens to what attention brings
            weight.add_(torch.randn_like(weight), alpha=0.3)
    return model.eval()


@pytest.mark.parametrize("number", range(8))
def test_attention_models_are_causal_in_space_and_colour(number):
    model = random_snail(number)
    ph.check_causal(model, (model.image_channels, *((4, 5), (3, 4))[number % 2]))


@pytest.mark.parametrize("number", range(8))
def test_probabilities_of_an_attention_model_sum_to_one_in_every_class(number):
    channels = random_snail(number).image_channels
    model = random_snail(number, levels=(5, 3, 2)[channels - 1])
    shape = {1: (1, 2, 2), 2: (2, 1, 3), 3: (3, 1, 3)}[channels]
    for label in range(model.classes or 1):
        total = ph.total_probability(model, shape, model.levels, None if model.classes is None else label)
        assert math.isclose(total, 1, rel_tol=1e-9)


def test_one_attention_layer_sees_the_whole_past():
    model = PixelSNAIL(levels=4, hidden=6, blocks=1)
    order = model.order((12, 12))[0]
    for row, column in ((11, 3), (6, 11), (0, 1)):
        seen = ph.receptive_field(model, at=(row, column), shape=(1, 12, 12))
        assert torch.equal(seen, order < order[row, column])
    assert not ph.receptive_field(model, at=(0, 0), shape=(1, 12, 12)).any()


def test_attention_is_what_its_weights_say_and_knows_places():
    torch.manual_seed(0)
    layer = CausalAttention(features=6, extra=1, hidden=8, heads=2).double()
    x, image = torch.randn(3, 6, 4, 5, dtype=torch.double), torch.randn(3, 1, 4, 5, dtype=torch.double)
    weights = layer.weights(x, image)
    assert weights.shape == (3, 2, 20, 20)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 20, dtype=torch.double))
    assert (weights.triu(1) == 0).all() and (weights[..., 0, 0] == 1).all()  # the first pixel: the start token alone
    value = layer.query_key_value(x, image)[2]
    torch.testing.assert_close((weights @ value).transpose(2, 3).flatten(1, 2).view(3, 8, 4, 5), layer(x, image))
    place = positions(28, 28, torch.zeros(())).flatten(2)[0].T
    assert torch.cdist(place, place).fill_diagonal_(1).min() > 0.1  # no two places look alike
    apart = [float(place[28 * row + 9] @ place[28 * row + 11]) for row in (0, 13, 27)]
    assert max(apart) - min(apart) < 1e-4  # products depend on the distance only


@pytest.mark.parametrize("components", [2, None])
def test_attention_that_may_read_its_own_pixel_is_caught(monkeypatch, components):
    model = random_snail(3, image_channels=1, components=components)
    ph.check_causal(model, (1, 4, 4))

    def not_moved_on(self, x, image):
        places = self.key_value(torch.cat((x, image), 1)).flatten(2)
        return tuple(map(self._by_head, (self.query(x).flatten(2), *places.chunk(2, 1))))

    monkeypatch.setattr(CausalAttention, "query_key_value", not_moved_on)
    with pytest.raises(ph.CausalityError, match="type B"):
        ph.check_causal(model, (1, 4, 4))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"hidden": 0}, "hidden is 0"),
        ({"blocks": 0}, "blocks is 0"),
        ({"heads": 0}, "heads is 0"),
        ({"hidden": 10, "heads": 3}, "heads is 3: give a divisor of 10"),
        ({"components": 0}, "components is 0"),
        ({"image_channels": 2}, "give 1 for grey images or 3"),
        ({"hidden": 2, "image_channels": 3, "components": None}, "cannot be shared"),
    ],
)
def test_bad_settings_of_an_attention_model_are_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        PixelSNAIL(**setting)


# -- labels ---------------------------------------------------------------------------------------


def test_labels_act_and_come_as_one_number_or_one_per_image(make):
    model = make(**CLASSES)
    x = draw(model, 3)
    one = model.log_prob(x, 2)
    assert torch.equal(one, model.log_prob(x, torch.tensor(2)))
    assert torch.equal(one, model.log_prob(x, torch.tensor([2, 2, 2], dtype=torch.uint8)))
    mixed = model.log_prob(x, torch.tensor([0, 2, 1]))
    assert mixed[1] == one[1] and (mixed != one).tolist() == [True, False, True]


@pytest.mark.parametrize(
    "label, words",
    [
        (None, "label is missing: the model knows 3 classes"),
        (3, "label runs from 3 to 3: the model knows 0 … 2"),
        (-1, "label runs from -1 to -1"),
        (torch.tensor([0, 1, 2, 5]), "label runs from 0 to 5"),
        (torch.tensor([0, 1]), r"shape \(2,\): give one integer, or 4 of them"),
        (torch.tensor([[0, 1, 2, 0]]), r"shape \(1, 4\)"),
        (1.0, "label has type torch.float32"),
    ],
)
def test_wrong_labels_are_refused(make, label, words):
    model = make(**CLASSES)
    x = draw(model)
    for ask in (model, model.predict, model.log_prob):
        with pytest.raises(ValueError, match=words):
            ask(x, label)


def test_a_label_for_a_model_without_classes_is_refused(make):
    model = make(**GREY)
    for ask in (model, model.predict, model.log_prob):
        with pytest.raises(ValueError, match=r"built without classes: leave it out"):
            ask(draw(model), 1)


# -- a learner's own module -----------------------------------------------------------------------


def test_as_model_keeps_models_and_wraps_modules():
    model = pixelcnn(**GREY)
    assert as_model(model) is model
    own = as_model(nn.Conv2d(1, 5, 1), levels=5, shape=(6, 6))
    assert isinstance(own, OwnModule) and (own.levels, own.image_size) == (5, 6)
    x = draw(model)
    assert own.log_prob(x).shape == (4,) and own.predict(x).pmf().shape == (4, 1, 6, 5, 5)
    with pytest.raises(ValueError, match=r"label was given"):
        own.log_prob(x, 1)


def test_a_learners_own_module_is_saved_as_its_own_weights(tmp_path):
    own = nn.Conv2d(1, 5, 1)
    as_model(own, levels=5).save_pretrained(tmp_path / "made")
    saved = load_file(tmp_path / "made" / "model.safetensors")
    assert saved.keys() == own.state_dict().keys()
    assert all(torch.equal(value, saved[name]) for name, value in own.state_dict().items())


def test_as_model_refuses_what_is_no_module_and_what_gives_other_shapes():
    with pytest.raises(TypeError, match=r"model is a function: give a torch.nn.Module"):
        as_model(lambda x: x)
    with pytest.raises(ValueError, match=r"Conv2d maps images \(4, 1, 6, 5\) to \(4, 7, 6, 5\)"):
        as_model(nn.Conv2d(1, 7, 1), levels=5).log_prob(draw(pixelcnn(**GREY)))


# -- files ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    pixelcnn(**GREY).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def edit(path: Path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("settings", [GREY, COLOUR, CLASSES, {**GREY, "dropout": 0.3}])
def test_a_saved_model_comes_back_bit_by_bit_in_silence(make, settings, tmp_path, capfd):
    model = make(image_size=10, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.train().save_pretrained(tmp_path / "made" / "on the way")
        again = type(model).from_pretrained(str(tmp_path / "made" / "on the way"))
    assert capfd.readouterr() == ("", "")
    assert type(again) is type(model) and again.settings == model.settings and not again.training
    assert again.image_size == 10 and again.card is None
    weights = model.state_dict()
    assert weights.keys() == again.state_dict().keys()
    assert all(torch.equal(value, weights[name]) for name, value in again.state_dict().items())
    label = 1 if "classes" in settings else None
    assert torch.equal(again.log_prob(draw(model), label), model.eval().log_prob(draw(model), label))


def test_a_folder_holds_a_config_and_safetensors_and_nothing_else(folder):
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    config = json.loads((folder / "config.json").read_text())
    assert (config["class"], config["format"]) == ("PixelCNN", 1)
    assert config["settings"].items() >= GREY.items()


def test_a_model_is_found_through_the_base_class_and_brings_its_card(folder):
    (folder / "card.json").write_text('{"data": "digits"}')
    model = AutoregressiveModel.from_pretrained(folder)
    assert type(model) is PixelCNN and model.card == {"data": "digits"}


def test_a_broken_card_is_named(folder):
    (folder / "card.json").write_text("{")
    with pytest.raises(ValueError, match=r"card.json is not a whole record"):
        AutoregressiveModel.from_pretrained(folder)


def test_settings_given_as_numpy_numbers_are_saved(tmp_path):
    PixelCNN(levels=np.int64(4), hidden=8, blocks=1).save_pretrained(tmp_path)
    assert PixelCNN.from_pretrained(tmp_path).levels == 4


def test_a_memory_layout_does_not_stop_saving(tmp_path):
    model = pixelcnn(**GREY).to(memory_format=torch.channels_last)
    model.save_pretrained(tmp_path)
    weights = PixelCNN.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_files_whole(folder, step, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full_disk(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, step, full_disk)
    with pytest.raises(OSError, match="No space left"):
        pixelcnn(**COLOUR).save_pretrained(folder)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(folder / "model.safetensors", b"other")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"class": ["PixelCNN"]}, "names the class"),
        ({"class": "PixelGAN"}, "names the class 'PixelGAN'; known here: .*PixelCNN"),
        ({"format": 2}, "has format 2, this package reads 1: update"),
        ({"settings": {"levels": 5, "depth": 3}}, "settings that PixelCNN does not take: .*depth"),
        ({"settings": {"levels": 1}}, "levels is 1"),
        ({"settings": ["levels"]}, "settings that PixelCNN does not take"),
    ],
)
def test_an_unknown_configuration_is_refused_by_name(folder, changes, words):
    edit(folder / "config.json", **changes)
    with pytest.raises(ValueError, match=words):
        PixelCNN.from_pretrained(folder)


@pytest.mark.parametrize("content", ["{", "[]", '{"class": "PixelCNN"}', ""])
def test_what_is_no_configuration_is_refused(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(ValueError, match=r"config.json is not a model's configuration"):
        PixelCNN.from_pretrained(folder)


def test_weights_that_are_missing_extra_or_of_another_shape_are_refused_by_name(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({name: value for name, value in weights.items() if name != "stem.bias"}, path)
    with pytest.raises(ValueError, match=r"lacks the weight 'stem.bias' of PixelCNN"):
        PixelCNN.from_pretrained(folder)
    save_file({**weights, "stem.extra": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"holds 'stem.extra', unknown to PixelCNN"):
        PixelCNN.from_pretrained(folder)
    save_file({**weights, "stem.bias": torch.zeros(9)}, path)
    with pytest.raises(ValueError, match=r"'stem.bias' has shape \(9,\).*describes \(8,\)"):
        PixelCNN.from_pretrained(folder)


@pytest.mark.parametrize("length", [0, 5, 100, -1])
def test_a_truncated_file_is_refused(folder, length):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"model.safetensors is not a whole safetensors file"):
        PixelCNN.from_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match="holds no " + re.escape(name)):
        PixelCNN.from_pretrained(folder)


class Bomb:
    """Makes a file when a pickle that holds it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_never_read(folder, tmp_path):
    crater = tmp_path / "crater"
    bomb = pickle.dumps(Bomb(crater))
    pickle.loads(bomb)
    assert crater.exists()  # the bomb works
    shutil.rmtree(crater)
    (folder / "model.safetensors").write_bytes(bomb)
    with pytest.raises(ValueError, match=r"not a whole safetensors file"):
        PixelCNN.from_pretrained(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"holds no model.safetensors"):
        PixelCNN.from_pretrained(folder)
    assert not crater.exists()


def test_unknown_shipped_weights_are_refused():
    with pytest.raises(ValueError, match="no weights are called 'pixelcnn-clouds'"):
        load_pretrained("pixelcnn-clouds")


def test_a_learners_class_of_the_same_name_does_not_take_the_packages_place(tmp_path):
    PixelCNN(hidden=8, blocks=1).save_pretrained(tmp_path)
    type("PixelCNN", (SoftmaxModel,), {"__module__": "__main__"})
    assert type(AutoregressiveModel.from_pretrained(tmp_path)) is PixelCNN
