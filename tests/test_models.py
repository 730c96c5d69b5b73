"""What must hold of one model and not of another, of a learner's own module, and of files."""

import dataclasses
import functools
import json
import math
import os
import pickle
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import pixelhelpers as ph
from pixelhelpers.distributions import DiscretizedLogisticMixture
from pixelhelpers.files import write_atomically
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
from pixelhelpers.models.base import AutoregressiveModel
from pixelhelpers.models.gated import gate
from pixelhelpers.models.own import OwnModule, as_model
from tests.register import MODELS, images

GREY = {"levels": 5, "hidden": 8, "blocks": 2}
COLOUR = {"levels": 4, "hidden": 12, "blocks": 1, "image_channels": 3}
CLASSES = {**GREY, "classes": 3}


def pixelcnn(**settings):
    torch.manual_seed(0)
    return PixelCNN(**settings).eval()


# -- one model after the other -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PixelCNN, GatedPixelCNN, MODELS["MultiscalePixelCNN"], MODELS["PixelSNAIL, softmax"]])
def test_the_likelihood_of_a_constant_model_is_known(kind):
    model = kind(**GREY).double()
    for name, parameter in model.named_parameters():
        if "head." in name:
            nn.init.zeros_(parameter)
    x = images(model)
    expected = torch.full((4,), -x[0].numel() * math.log(5), dtype=torch.float64)
    torch.testing.assert_close(model.log_prob(x), expected)


@pytest.mark.parametrize(
    "setting, words",
    [
        ({"hidden": 7}, "hidden is 7: give an even number"),
        ({"hidden": 4, "image_channels": 3}, "hidden is 4: give an even number of at least 6"),
    ],
)
def test_bad_settings_of_a_plain_model_are_refused(setting, words):
    with pytest.raises(ValueError, match=words):
        PixelCNN(**setting)


@pytest.mark.parametrize(
    "setting, words",
    [
        ({"blocks": 0}, "blocks is 0: give at least 1"),
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


def test_a_vertical_stack_that_is_not_shifted_down_is_caught(monkeypatch):
    monkeypatch.setattr("pixelhelpers.models.gated.shift_down", lambda x: x)
    model = random_gated(0)
    with pytest.raises(ph.CausalityError, match=r"too far to the right|type B"):
        ph.check_causal(model, (model.image_channels, 5, 6))


def test_gates_that_mix_colours_are_caught(monkeypatch):
    torch.manual_seed(0)
    model = GatedPixelCNN(levels=4, image_channels=3, hidden=6, blocks=1)
    ph.check_causal(model, (3, 3, 3))
    monkeypatch.setattr("pixelhelpers.models.gated.gate", lambda x, image_channels=1: gate(x))
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
    x, label = images(model), None if model.classes is None else 1
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
        assert model(images(model)).dtype == torch.float32


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
    x = images(model)
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
    assert model.image_size == model.base.image_size * 2**model.doublings
    assert MultiscalePixelCNN(**model.settings).settings == model.settings


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"hidden": 0}, "hidden is 0"),
        ({"hidden": 5}, "hidden is 5: give an even number"),
        ({"hidden": 8, "image_channels": 3}, "hidden is 8: give an even multiple of the 3 channels"),
        ({"base": 2.5}, "base is 2.5: give a whole number"),
        ({"doublings": 1.5}, "doublings is 1.5: give a whole number"),
        ({"image_size": -4}, "image_size is -4: give at least 1"),
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
    odd = dataclasses.replace(digits, **{part: getattr(digits, part)[..., :-1] for part in ("train", "valid", "test")})
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


# -- a learner's own module -----------------------------------------------------------------------


def test_as_model_keeps_models_and_wraps_modules():
    model = pixelcnn(**GREY)
    assert as_model(model) is model
    own = as_model(nn.Conv2d(1, 5, 1), levels=5, image_size=6)
    assert isinstance(own, OwnModule) and (own.levels, own.image_size) == (5, 6)
    x = images(model)
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
    with pytest.raises(ValueError, match=r"to \(1, 7, 28, 28\): logits must have shape \(1, 5, 28, 28\)"):
        as_model(nn.Conv2d(1, 7, 1), levels=5)


# -- files ----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    pixelcnn(**GREY).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def edit(path: Path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


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


STRANGE = [-1, 0, 0.5, 1e30, math.inf, math.nan, 10**30, "8", "x" * 10**6, "\x1b[2J", None, [], [[8]], {"a": 1}, True]


@pytest.mark.parametrize("name", ["levels", "image_channels", "image_size", "classes", "hidden", "blocks", "dropout"])
def test_strange_settings_are_refused_in_one_line(folder, name):
    """Or they are those that were saved, or mean the same."""
    config = json.loads((folder / "config.json").read_text())
    saved = PixelCNN.from_pretrained(folder)
    for strange in [*STRANGE, functools.reduce(lambda inner, _: [inner], range(900), 8)]:
        edit(folder / "config.json", settings=config["settings"] | {name: strange})
        try:
            loaded = PixelCNN.from_pretrained(folder)
        except ValueError as error:
            assert str(error).isprintable() and len(str(error)) < 1000
        else:
            assert loaded.settings == saved.settings


def test_a_configuration_that_is_too_deep_or_too_long_is_refused(folder):
    whole = (folder / "config.json").read_text()
    for content in ("[" * 10**5, whole.replace('"settings": {', '"settings": {"a":' + "[" * 10**5), " " * 10**8):
        (folder / "config.json").write_text(content)
        with pytest.raises(ValueError, match=r"config.json is not a model's configuration"):
            PixelCNN.from_pretrained(folder)


def test_a_configuration_of_other_weights_is_refused_by_what_differs(folder, tmp_path):
    for changes, words in (({"dropout": 0.5}, "dropout is 0.5 there, 0.0 here"), ({"hidden": 16}, "describes")):
        pixelcnn(**GREY | changes).save_pretrained(tmp_path / "other")
        shutil.copy(tmp_path / "other" / "config.json", folder)
        with pytest.raises(ValueError, match=words):
            PixelCNN.from_pretrained(folder)


@pytest.mark.parametrize("fails_at", [1, 2, 3, 4])
def test_a_save_that_is_cut_short_leaves_a_pair_or_is_found_out(folder, fails_at, monkeypatch):
    """However far it came: both old, both new, or a mixture that is refused."""
    calls, other = [], GREY | {"image_size": 9}
    for name in ("fsync", "replace"):
        step = getattr(os, name)

        def cut(*arguments, step=step):
            calls.append(arguments)
            if len(calls) == fails_at:
                raise KeyboardInterrupt
            return step(*arguments)

        monkeypatch.setattr(os, name, cut)
    with pytest.raises(KeyboardInterrupt):
        pixelcnn(**other).save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    if fails_at == 4:  # between the two new names
        with pytest.raises(ValueError, match="do not belong together: image_size is"):
            PixelCNN.from_pretrained(folder)
    else:
        assert PixelCNN.from_pretrained(folder).image_size == pixelcnn(**GREY).image_size


@pytest.mark.parametrize("kind", [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.uint8])
def test_weights_of_a_type_that_is_no_float_of_usual_width_are_refused_by_name(folder, kind):
    path = folder / "model.safetensors"
    weights = load_file(path)
    save_file({**weights, "stem.bias": weights["stem.bias"].to(kind)}, path)
    with pytest.raises(ValueError, match=rf"weight 'stem.bias' of .* is {kind}, PixelCNN has torch.float32: convert"):
        PixelCNN.from_pretrained(folder)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_another_width_become_the_models(folder, kind):
    path = folder / "model.safetensors"
    weights = {name: value.to(kind) for name, value in load_file(path).items()}
    save_file(weights, path)
    loaded = PixelCNN.from_pretrained(folder).state_dict()
    assert all(torch.equal(loaded[name], value.float()) for name, value in weights.items())
    save_file({**weights, "stem.bias": torch.full((8,), 1e300, dtype=torch.float64)}, path)  # too wide
    with pytest.raises(ValueError, match=r"weight 'stem.bias' of .* holds 8 values that are no finite numbers"):
        PixelCNN.from_pretrained(folder)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_spoilt_weights_are_refused_by_name_and_by_the_command_line(folder, number, capsys):
    from pixelhelpers.__main__ import main

    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["stem.bias"][2] = number
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"weight 'stem.bias' of .* holds 1 values that are no finite numbers"):
        PixelCNN.from_pretrained(folder)
    assert main(["evaluate", str(folder), "--data", "digits"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1


def test_weights_with_a_changed_bit_are_refused_or_the_same(folder):
    path, chance = folder / "model.safetensors", random.Random(0)
    content, refused = path.read_bytes(), 0
    weights = PixelCNN.from_pretrained(folder).state_dict()
    length = 8 + int.from_bytes(content[:8], "little")
    for _ in range(100):
        place = chance.randrange(chance.choice((8, length, len(content))))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << chance.randrange(8)]) + content[place + 1 :])
        try:
            loaded = PixelCNN.from_pretrained(folder).state_dict()
        except ValueError as error:
            assert str(error).isprintable() and len(str(error)) < 1000
            refused += 1
        else:
            assert all(torch.equal(loaded[name], value) for name, value in weights.items())
    assert refused > 75


def test_a_header_that_claims_terabytes_costs_nothing(folder):
    path = folder / "model.safetensors"
    size = 4 * 10**12
    header = json.dumps({"stem.weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, size]}}).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        try:
            file.truncate(8 + len(header) + size)  # a file with a hole
        except OSError:
            pytest.skip("this disk has no files with holes")
    with pytest.raises(ValueError, match=r"lacks the weight|not a whole safetensors file"):
        PixelCNN.from_pretrained(folder)


class ReadsItsWeights(PixelCNN):
    """A class of one's own, whose constructor needs the values of its weights."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.largest = float(next(self.parameters()).detach().abs().max())


def test_a_class_of_ones_own_may_need_the_values_of_its_weights(tmp_path):
    with torch.device("meta"), pytest.raises(RuntimeError):
        ReadsItsWeights(**GREY)
    model = ReadsItsWeights(**GREY)
    model.save_pretrained(tmp_path)
    loaded = ReadsItsWeights.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in model.state_dict().items())


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
    type("PixelCNN", (AutoregressiveModel,), {"__module__": "__main__"})
    assert type(AutoregressiveModel.from_pretrained(tmp_path)) is PixelCNN
