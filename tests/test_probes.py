"""The probes: every planted leak is caught and named, no honest model is accused."""

import itertools
import random
import re
import threading
from functools import partial

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pixelhelpers import as_model, total_probability
from pixelhelpers.layers import MaskedConv2d, raster_mask
from pixelhelpers.models import GatedPixelCNN, PixelCNN, ResidualBlock
from pixelhelpers.probes import (
    CausalityError,
    best_temperature,
    blind_spot,
    check_causal,
    effective_receptive_field,
    nearest_neighbours,
    neighbours,
    posterior,
    reached_window,
    receptive_field,
    reliability,
)

SHAPE = (1, 6, 6)
PLACE = r"output \(channel (\d), row (\d+), column (\d+)\)"
LEAK = PLACE + r" changes with input \(channel (\d), row (\d+), column (\d+)\), which is not drawn"


class OwnMask(nn.Conv2d):
    """A learner's masked convolution, with any mask."""

    def __init__(self, mask, features=8):
        size = mask.shape[-1]
        super().__init__(1, features, size, padding=size // 2)
        self.register_buffer("mask", mask.float())

    def forward(self, x):
        return self._conv_forward(x, self.weight * self.mask, self.bias)


def opened(rows_below=0, columns=0):
    """Makes a 5x5 mask of type A with more taps open."""
    mask = raster_mask("A", 1, 1, 5).clone()
    if columns:
        mask[..., 2, 2 : 3 + columns] = True
    mask[..., 3 : 3 + rows_below, :] = True
    return mask


def network(stem=None, after_stem=None, seed=0, **settings):
    """Makes a small PixelCNN, with another stem or with something after the stem."""
    torch.manual_seed(seed)
    model = PixelCNN(**{"levels": 8, "hidden": 8, "blocks": 1, **settings})
    model.stem = stem or model.stem
    if after_stem:
        model.stem = nn.Sequential(model.stem, after_stem)
    return model


def accused(model, shape=SHAPE, **keywords):
    with pytest.raises(CausalityError) as caught:
        check_causal(model, shape, **keywords)
    return str(caught.value)


# -- planted leaks --------------------------------------------------------------------------------


class Rolled(nn.Module):
    """Shifts the image to the right by torch.roll, then looks left and at the pixel itself."""

    def __init__(self):
        super().__init__()
        self.layer = MaskedConv2d("B", 1, 8, 3)

    def forward(self, x):
        return self.layer(torch.roll(x, 1, 3))


class RolledDown(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 8, (1, 3), padding=(0, 1))

    def forward(self, x):
        return self.layer(x.roll((1,), (-2,)))


class Circular(OwnMask):
    def forward(self, x):
        return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="circular"), self.weight * self.mask, self.bias)


class FunctionalNorm(nn.Module):
    def forward(self, x):
        return F.group_norm(x, 1)


class Skip(nn.Module):
    """A stem of type A with the image added to it."""

    def __init__(self):
        super().__init__()
        self.layer = MaskedConv2d("A", 1, 8, 5)

    def forward(self, x):
        return x + self.layer(x)


PLANTED = {
    "type B stem": (lambda: network(MaskedConv2d("B", 1, 8, 7)), "type B stem: it sees the pixel"),
    "skip": (lambda: network(Skip()), "sees the pixel itself, or a skip leads around it"),
    "one column": (
        lambda: network(OwnMask(opened(columns=1))),
        "one column too far to the right",
    ),
    "two columns": (
        lambda: network(OwnMask(opened(columns=2))),
        "2 columns too far to the right",
    ),
    "row below": (lambda: network(OwnMask(opened(rows_below=1))), "rows below are open"),
    "no mask": (lambda: network(nn.Conv2d(1, 8, 3, padding=1)), "rows below are open"),
    "roll": (lambda: network(Rolled()), r"wraps around the border \(torch.roll"),
    "roll down": (lambda: network(RolledDown()), r"wraps around the border \(torch.roll"),
    "circular": (lambda: network(Circular(opened())), "wraps around the border"),
    "BatchNorm": (
        lambda: network(after_stem=nn.BatchNorm2d(8)),
        r"statistics over .*batch: BatchNorm2d \(stem.1\) in train mode",
    ),
    "InstanceNorm": (
        lambda: network(after_stem=nn.InstanceNorm2d(8)),
        r"statistics over the whole image.*: InstanceNorm2d \(stem.1\)$",
    ),
    "GroupNorm": (
        lambda: network(after_stem=nn.GroupNorm(2, 8)),
        r"statistics over the whole image.*: GroupNorm \(stem.1\)$",
    ),
    "LayerNorm": (
        lambda: network(after_stem=nn.LayerNorm([8, 6, 6])),
        r"statistics over the whole image.*: LayerNorm \(stem.1\)$",
    ),
    "functional norm": (
        lambda: network(after_stem=FunctionalNorm()),
        "every output sees the whole image: statistics over the whole image",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_leak_is_caught_and_named(name):
    make, words = PLANTED[name]
    message = accused(make())
    assert re.search(f"Likely mistake: .*{words}", message.rstrip(".")), message
    assert re.search("another image of its batch" if name == "BatchNorm" else LEAK, message)


@pytest.mark.parametrize("name", ["type B stem", "one column", "row below", "roll", "InstanceNorm"])
def test_the_named_input_really_moves_the_named_output(name):
    model = PLANTED[name][0]().double().eval()
    places = [int(number) for number in re.search(LEAK, accused(model)).groups()]
    (channel, row, column), source = places[:3], tuple(places[3:])
    assert source[1:] >= (row, column)  # it is drawn no earlier
    x = torch.randint(8, (20, *SHAPE), generator=torch.Generator().manual_seed(0)).double()
    changed = x.clone()
    changed[(slice(None), *source)] = 7 - x[(slice(None), *source)]
    moved = (model(changed) - model(x)).abs().amax(1, keepdim=True)
    assert moved[:, channel, row, column].max() > 1e-9


@pytest.mark.parametrize("mask_is_kept", [True, False])
def test_a_mask_applied_only_once_is_caught_and_named(mask_is_kept):
    torch.manual_seed(0)
    stem, mask = nn.Conv2d(1, 8, 7, padding=3), raster_mask("A", 1, 1, 7).float()
    stem.weight.data *= mask
    if mask_is_kept:
        stem.register_buffer("mask", mask)
    model = network(stem)
    check_causal(model, SHAPE)  # before training the mask still holds

    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = torch.randint(8, (16, 1, 6, 6))
    (-model.log_prob(x).mean()).backward()
    optimizer.step()
    message = accused(model)
    assert "mask applied only once (weights at masked taps are no longer zero)" in message
    assert re.search(LEAK, message)

    stem.weight.data *= mask  # a learner who masks again after every step is right
    check_causal(model, SHAPE)


class Wrapper(nn.Module):
    """Holds the mask beside a plain convolution, as many tutorials do."""

    def __init__(self, masked_in_forward):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.register_buffer("mask", raster_mask("A", 1, 1, 3).float())
        self.masked_in_forward = masked_in_forward

    def forward(self, x):
        if self.masked_in_forward:
            self.conv.weight.data *= self.mask
        return self.conv(x)


def test_a_mask_multiplied_into_the_weights_at_every_forward_is_right():
    model = Wrapper(masked_in_forward=True)
    before = model.conv.weight.clone()
    check_causal(model)
    assert torch.equal(model.conv.weight, before)
    assert "mask applied only once" in accused(Wrapper(masked_in_forward=False))


COLOUR = {"image_channels": 3, "hidden": 12}


@pytest.mark.parametrize(
    "stem, words",
    [
        (lambda: MaskedConv2d("B", 3, 12, 3, image_channels=1), "channel order mistake in colour"),
        (lambda: MaskedConv2d("B", 3, 12, 3, image_channels=3), "type B stem"),
    ],
)
def test_leaks_between_colour_channels_are_named(stem, words):
    message = accused(network(stem(), **COLOUR), (3, 4, 4))
    assert words in message
    output, source = torch.tensor([int(n) for n in re.search(LEAK, message).groups()]).view(2, 3)
    assert torch.equal(output[1:], source[1:]) and source[0] >= output[0]


class Reversed(nn.Module):
    """Answers for B, G, R where R, G, B are asked for."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).flip(2)


def test_a_channel_order_mistake_in_the_head_is_named():
    assert "channel order mistake in colour" in accused(Reversed(network(**COLOUR)), (3, 4, 4))


def test_features_of_a_bare_colour_layer_belong_to_channels_in_groups():
    torch.manual_seed(0)
    check_causal(MaskedConv2d("A", 3, 6, 3, image_channels=3), (3, 4, 4))
    check_causal(MaskedConv2d("B", 3, 7, 3, image_channels=3), (3, 4, 4), own_value=True)
    swapped = nn.Sequential(MaskedConv2d("A", 3, 6, 3, 3), nn.ChannelShuffle(2))
    assert "channel order mistake" in accused(swapped, (3, 4, 4))


def test_images_that_are_mixed_across_the_batch_are_caught():
    def mixed(x):
        return F.pad(x, (1, 0))[..., :-1] + x.mean(0, keepdim=True)

    assert "another image of its batch" in accused(mixed)
    assert "BatchNorm2d (stem.1) in train mode" in accused(network(after_stem=nn.BatchNorm2d(8), classes=3))
    own = as_model(nn.Sequential(MaskedConv2d("A", 1, 8, 3), nn.BatchNorm2d(8)), image_size=6)
    assert "BatchNorm2d (1) in train mode" in accused(own)


class Gated(nn.Module):
    """A residual gate that begins at zero hides an open row."""

    def __init__(self):
        super().__init__()
        self.stem = MaskedConv2d("A", 1, 8, 3)
        self.open = nn.Conv2d(8, 8, 3, padding=1)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        h = self.stem(x)
        return h + self.gate * self.open(h)


def test_a_leak_behind_a_gate_that_begins_at_zero_is_caught():
    message = accused(Gated())
    assert "rows below are open" in message and "all zero: gate" in message


def test_a_leak_behind_a_relu_that_is_mostly_shut_is_caught():
    model = network(MaskedConv2d("B", 1, 8, 1), blocks=0)
    with torch.no_grad():
        model.stem.weight.fill_(1)
        model.stem.bias.fill_(-0.99)  # opens for the highest of 8 levels only
    assert "type B stem" in accused(model)


class Faulty(nn.Module):
    """An honest network, to which something is added that is not."""

    def __init__(self, extra, **attributes):
        super().__init__()
        torch.manual_seed(0)
        self.base, self.extra = nn.Sequential(MaskedConv2d("A", 1, 8, 3), nn.ReLU(), MaskedConv2d("B", 8, 6, 1)), extra
        for name, value in attributes.items():
            self.register_buffer(name, value) if isinstance(value, torch.Tensor) else setattr(self, name, value)

    def forward(self, x):
        return self.base(x / 255) + self.extra(self, x).to(x)


class Conditional(Faulty):
    def forward(self, x, label):
        return self.base(x / 255) + self.extra(x, label)


def ahead(x, down, right):
    """Shows every pixel the one that lies so far below and to the right, zeros beyond the border."""
    return F.pad(x, (0, right, 0, down))[..., down:, right:]


def only(label, which, x):
    return (label == which).view(-1, 1, 1, 1) * x


PIXEL, WHOLE, MIXED = "type B stem", "every output sees the whole image", "images of a batch are mixed"
RIGHT = torch.arange(8) > 3  # columns
HIDDEN = {
    "at the highest level": (Faulty(lambda self, x: x == 255), PIXEL),
    "at level 0": (Faulty(lambda self, x: x == 0), PIXEL),
    "statistics past a threshold": (Faulty(lambda self, x: x.mean((1, 2, 3), keepdim=True) > 200), WHOLE),
    "a bright image": (Faulty(lambda self, x: x.mean((1, 2, 3), keepdim=True) > 254), WHOLE),
    "an empty image": (Faulty(lambda self, x: x.amax((1, 2, 3), keepdim=True) == 0), WHOLE),
    "where the first pixel is bright": (Faulty(lambda self, x: (x[..., :1, :1] > 200) * x), PIXEL),
    "a gate in a buffer": (Faulty(lambda self, x: self.gate * x, gate=torch.zeros(1)), PIXEL + ".*all zero: gate"),
    "one class": (Conditional(lambda x, label: only(label, 7, x), classes=10), PIXEL + r".*\(class 7\)"),
    "a class that was told": (
        as_model(Conditional(lambda x, label: only(label, 3, x)), classes=4),
        PIXEL + r".*\(class 3\)",
    ),
    "a gate in a module that was told": (
        as_model(Faulty(lambda self, x: self.gate * x, gate=torch.zeros(1)), image_size=6),
        PIXEL + ".*all zero: gate",
    ),
    "far to the right": (Faulty(lambda self, x: ahead(x, 0, 11), image_size=28), "11 columns too far to the right"),
    "far below": (Faulty(lambda self, x: ahead(x, 12, 3), image_size=28), "rows below are open"),
    "far below, behind a gate": (
        Faulty(lambda self, x: self.gate * ahead(x, 9, 0), image_size=20, gate=torch.zeros(1)),
        "rows below are open.*all zero: gate",
    ),
    "right half": (Faulty(lambda self, x: x * (torch.arange(x.shape[3]) >= 8), image_size=16), PIXEL),
    "beside huge numbers": (
        Faulty(lambda self, x: (x / 1e4).masked_fill(RIGHT, -1e9)),
        PIXEL,
    ),
    "beside -inf": (
        Faulty(
            lambda self, x: x.expand(-1, 6, -1, -1).masked_fill(
                RIGHT & (torch.arange(6) == 5).view(6, 1, 1), -torch.inf
            )
        ),
        PIXEL,
    ),
    "which levels are forbidden": (
        Faulty(lambda self, x: (0 * x).masked_fill((x > 100) & (torch.arange(6) == 5).view(6, 1, 1), -torch.inf)),
        PIXEL,
    ),
    "in training": (Faulty(lambda self, x: x * self.training), PIXEL),
    "the brightest of the batch": (Faulty(lambda self, x: x.amax() * (x < 0) + x.amax()), MIXED),
    "Fourier": (Faulty(lambda self, x: torch.fft.fft2(x).real), "rows below"),
    "half a pyramid": (Faulty(lambda self, x: F.interpolate(F.avg_pool2d(x, 2), scale_factor=2)), "rows below"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_a_leak_that_hides_is_caught_and_named(name):
    model, words = HIDDEN[name]
    assert re.search(f"(?s){words}", accused(model, None)), name


def test_without_what_is_added_nothing_is_accused():
    check_causal(Faulty(lambda self, x: 0 * x, image_size=28, gate=torch.zeros(1)))
    check_causal(Conditional(lambda x, label: label.view(-1, 1, 1, 1).to(x), classes=10))


def test_a_leak_is_traced_to_one_value_of_a_large_image_and_really_moves_that_output():
    model = Faulty(lambda self, x: ahead(x, 12, 3), image_size=28)
    numbers = [int(number) for number in re.search(LEAK, accused(model, None)).groups()]
    (_, row, column), (_, below, right) = numbers[:3], numbers[3:]
    assert (below - row, right - column) == (12, 3)


def test_the_classes_that_are_asked_about_can_be_chosen():
    model = HIDDEN["one class"][0]
    check_causal(model, labels=[0, 1, 9])
    assert "(class 7)" in accused(model, None, labels=[6, 7])
    assert "(class 7)" not in accused(model, None, labels=7)  # all that were asked
    for labels, words in (
        ([10], "label runs from 10 to 10: the model knows 0 … 9"),
        ([-1], "label runs from -1 to -1"),
        ([], r"labels has type torch.float32 and shape \(0,\): give one class or more"),
        (1.5, r"labels has type torch.float32"),
        ("ab", "labels is 'ab': give one class or more"),
        ([[1]], r"labels have shape \(1, 1\): give one class or more"),
    ):
        with pytest.raises(ValueError, match=words):
            check_causal(model, labels=labels)
    with pytest.raises(ValueError, match=r"labels are \[0\], but MaskedConv2d knows no classes"):
        check_causal(MaskedConv2d("A", 1, 4, 3), labels=[0])


def test_a_model_that_answers_twice_in_two_ways_is_refused_for_that():
    chance = random.Random(0)
    calls = itertools.count()
    for noise in (lambda x: chance.random() * x, lambda x: x * 0 + next(calls)):
        message = accused(lambda x, noise=noise: F.pad(x, (1, 0))[..., :-1] + noise(x))
        assert "not deterministic: asked twice" in message and "Likely mistake" not in message


# -- dead heads and broken outputs ----------------------------------------------------------------


def test_a_dead_head_does_not_pass():
    model = network()
    nn.init.zeros_(model.head[-1].weight)
    message = accused(model)
    assert "no output depends on any earlier value" in message and "dead head" in message
    assert "head.3.weight" in message
    assert "dead head" in accused(lambda x: torch.zeros(len(x), 8, 6, 6, dtype=x.dtype))
    assert "dead head" in accused(MaskedConv2d("A", 1, 8, 1))
    assert "dead head" in accused(lambda x: F.pad(0 * x, (1, 0))[..., :-1])


def test_a_single_value_has_no_past_that_could_act():
    check_causal(MaskedConv2d("A", 1, 4, 3), (1, 1, 1))
    check_causal(MaskedConv2d("A", 1, 4, 3), (1, 1, 2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_no_numbers_are_refused(value):
    def broken(x):
        out = F.pad(x, (1, 0))[..., :-1].clone()
        out[:, :, 1, 2] = value
        return out

    assert "row 1, column 2 is NaN or infinite" in accused(broken)
    assert "row 0, column 0 forbids every level" in accused(lambda x: F.pad(x, (1, 0))[..., :-1] - torch.inf)


@pytest.mark.parametrize(
    "model, words",
    [
        (lambda x: x[..., 1:], r"maps images \(1, 1, 6, 6\) to \(1, 1, 6, 5\)"),
        (lambda x: x.sum((1, 2, 3)), r"to \(1,\)"),
        (lambda x: (x, x), "returned tuple"),
        (lambda x: x > 3, "returned torch.bool"),
        (lambda x: x.expand(-1, 5, -1, -1).movedim(1, -1), r"Channels last\? Give output.permute\(0, 3, 1, 2\)"),
        (
            lambda x: x[:, None].expand(-1, 1, 5, -1, -1),
            r"Axes in another order\? Give output.permute\(0, 2, 1, 3, 4\)",
        ),
        (
            lambda x: x.expand(-1, 5, -1, -1).flatten(2).mT,
            r"Pixels in one axis\? Give output.mT.unflatten\(2, \(6, 6\)\)",
        ),
        (lambda x: x.expand(-1, 5, -1, -1)[0], r"to \(5, 6, 6\): the probes read \[N, features, H, W\]"),
        (lambda x: x + torch.zeros(28), r"does not take images \(1, 1, 6, 6\) \(RuntimeError: .*: give its shape="),
        (lambda x, y, z: x, r"does not take images .*missing 2 required"),
    ],
)
def test_outputs_of_another_shape_or_kind_are_refused(model, words):
    with pytest.raises(ValueError, match=words):
        check_causal(model, SHAPE)


def test_bad_arguments_are_refused():
    for shape in (6, (6,), (1, 6, 6.0), (0, 6), (1, 1, 6, 6), "666", (1, 10**6, 10**6), torch.ones(1, 6, 6)):
        for probe in (check_causal, partial(receptive_field, at=(0, 0)), partial(total_probability, levels=8)):
            with pytest.raises(ValueError, match=r"shape is .*: give|there are 8\^1000000000000 images"):
                probe(network(), shape=shape)
    for levels in (8.0, "8", 1, 9):
        with pytest.raises(ValueError, match=r"levels is .*: give|levels is 9, but the model was built with levels=8"):
            check_causal(network(), SHAPE, levels=levels)
    for order in ([[0, 1], [2]], "raster", [[[0.5] * 6] * 6]):
        with pytest.raises(ValueError, match=r"order (is|has type|has shape) .*: give"):
            check_causal(network(), SHAPE, order=order)
    with pytest.raises(ValueError, match=r"order has shape \(5, 5\): give one rank per value"):
        check_causal(network(), SHAPE, order=torch.zeros(5, 5, dtype=torch.long))
    with pytest.raises(ValueError, match=r"channels last\? Give shape=\(1, 6, 7\)"):
        check_causal(MaskedConv2d("A", 1, 4, 3), (6, 7, 1))
    with pytest.raises(ValueError, match=r"MaskedConv2d cannot be copied, .*cannot pickle"):
        layer = MaskedConv2d("A", 1, 4, 3)
        layer.lock = threading.Lock()
        check_causal(layer)
    with pytest.raises(TypeError, match="model is a str"):
        check_causal("PixelCNN")


# -- no false alarm -------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_no_false_alarm_over_random_networks(seed):
    chance = random.Random(seed)
    channels = chance.choice([1, 1, 3])
    settings = {
        "image_channels": channels,
        "hidden": channels * chance.choice([4, 6]),
        "blocks": chance.randint(0, 4),
        "levels": chance.choice([2, 7, 256 // channels]),
        "dropout": chance.choice([0.0, 0.5]),
        "classes": chance.choice([None, 4]),
    }
    shape = (channels, chance.randint(1, 5), chance.randint(2, 5))
    check_causal(network(seed=seed, **settings), shape)


@pytest.mark.parametrize("seed", range(6))
def test_no_false_alarm_over_random_stacks_of_layers(seed):
    chance, channels = random.Random(seed), 1 + 2 * (seed % 2)
    torch.manual_seed(seed)
    size, hidden = chance.choice([3, 5, 7]), 6 * chance.randint(1, 2)
    layers = [MaskedConv2d("A", channels, hidden, size, channels)]
    for _ in range(chance.randint(0, 3)):
        layers += [
            chance.choice([nn.ReLU(), nn.ELU(), nn.Sigmoid(), nn.Dropout2d(0.5)]),
            MaskedConv2d("B", hidden, hidden, chance.choice([1, 3, 5]), channels),
            ResidualBlock(hidden, chance.choice([3, 5]), 0.3, channels),
        ]
    check_causal(nn.Sequential(*layers), (channels, 4, 5))


class FunctionalDropout(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = MaskedConv2d("A", 1, 8, 3)

    def forward(self, x):
        return F.dropout(self.layer(x.float()), 0.5, self.training)  # and insists on float32


class NeverDrops(nn.Dropout2d):
    def forward(self, x):
        assert not self.training
        return super().forward(x)


class PixelNorm(nn.Module):
    """Normalises the features of each pixel by itself: allowed."""

    def __init__(self, features):
        super().__init__()
        self.norm = nn.LayerNorm(features)

    def forward(self, x):
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


def test_no_false_alarm_for_chance_float32_and_statistics_of_one_pixel():
    torch.manual_seed(0)
    check_causal(FunctionalDropout(), SHAPE)
    check_causal(network(after_stem=PixelNorm(8)), SHAPE)
    check_causal(network(after_stem=NeverDrops()).train(), SHAPE)
    single = MaskedConv2d("A", 1, 8, 3)
    check_causal(lambda x: single(x), SHAPE)  # a function around a float32 module


class Odd(nn.Module):
    """A module with a forward of its own, and parts."""

    def __init__(self, forward, **parts):
        super().__init__()
        self.own = forward
        for name, value in parts.items():
            self.register_buffer(name, value) if type(value) is torch.Tensor else setattr(self, name, value)

    def forward(self, x, *label):
        return self.own(self, x, *label)


class Stateful(nn.Module):
    """Counts, averages, and keeps what it has computed."""

    def __init__(self):
        super().__init__()
        self.layer, self.calls = MaskedConv2d("A", 1, 4, 3), 0
        self.register_buffer("average", torch.zeros(4))

    def forward(self, x):
        self.calls += 1
        self.average = 0.9 * self.average + 0.1
        self.kept = [self.layer(x) * self.calls + self.average.view(4, 1, 1)]
        return self.kept[0]


class CausalAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Linear(1, 8), nn.Linear(8, 6)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
        self.places = nn.Parameter(torch.randn(36, 8))

    def forward(self, x):
        h = self.embed(F.pad(x.flatten(2).mT / 8, (0, 0, 1, 0))[:, :-1]) + self.places
        shut = torch.full((36, 36), -torch.inf).triu(1).to(x)
        return self.out(h + self.attention(h, h, h, attn_mask=shut, need_weights=False)[0]).mT.unflatten(2, (6, 6))


class RowsAfterRows(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(6, 6, batch_first=True), nn.Linear(6, 24)

    def forward(self, x):
        return self.out(self.rnn(F.pad(x[:, 0], (0, 0, 1, 0))[:, :-1])[0]).unflatten(2, (4, 6)).movedim(2, 1)


def in_bfloat16(self, x):
    with torch.autocast("cpu", torch.bfloat16):
        return self.base(x.float()).float()


def stack(*last, features=8):
    return nn.Sequential(MaskedConv2d("A", 1, features, 3), *last)


def base(features=6):
    return {"base": MaskedConv2d("A", 1, features, 3)}


TIED = MaskedConv2d("B", 6, 6, 3)
LAST_LEVELS = (torch.arange(6) > 3).view(6, 1, 1)
HONEST = {
    "forbidden levels": lambda: Odd(lambda s, x: s.base(x).masked_fill(LAST_LEVELS, -torch.inf), **base()),
    "forbidden by an earlier pixel": lambda: Odd(
        lambda s, x: s.base(x).masked_fill(LAST_LEVELS & (moved_by(x, 0, 1) > 4), -torch.inf), **base()
    ),
    "huge numbers": lambda: Odd(lambda s, x: s.base(x).masked_fill(LAST_LEVELS, torch.finfo(x.dtype).min), **base()),
    "grey logits with an axis for channels": lambda: Odd(lambda s, x: s.base(x)[:, :, None], **base()),
    "old weight_norm": lambda: stack(nn.utils.weight_norm(nn.Conv2d(8, 6, 1))),
    "old spectral_norm": lambda: stack(nn.utils.spectral_norm(nn.Conv2d(8, 6, 1))),
    "spectral_norm": lambda: stack(nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 6, 1))),
    "weight_norm": lambda: stack(nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 6, 1))),
    "state": Stateful,
    "noise of its own": lambda: Odd(
        lambda s, x: s.base(x) + torch.tensor([s.chance.random() for _ in x]).view(-1, 1, 1, 1),
        chance=random.Random(0),
        **base(),
    ),
    "noise of torch": lambda: Odd(lambda s, x: s.base(x) + torch.rand(len(x), 6, 1, 1), **base()),
    "attention": CausalAttention,
    "an LSTM over rows": RowsAfterRows,
    "an embedding that wants integers": lambda: Odd(
        lambda s, x: s.base(s.embed(x[:, 0]).movedim(-1, 1)),
        base=MaskedConv2d("A", 4, 6, 3),
        embed=nn.Embedding(256, 4),
    ),
    "the mean of what is drawn": lambda: Odd(
        lambda s, x: (F.pad(x.flatten(1), (1, 0))[:, :-1].cumsum(1) / torch.arange(1, 37)).view(x.shape)
    ),
    "places": lambda: Odd(lambda s, x: s.base(x) + torch.sin(torch.arange(6)), **base()),
    "complex numbers": lambda: Odd(lambda s, x: torch.complex(s.base(x), s.base(x)).pow(2).imag, **base()),
    "work in place": lambda: Odd(lambda s, x: s.base(x.div_(8).sub_(0.5)), **base()),
    "autocast": lambda: Odd(in_bfloat16, **base()),
    "checkpointing": lambda: Odd(lambda s, x: checkpoint(s.base, x, use_reentrant=False), **base()),
    "dilation": lambda: stack(Odd(lambda s, x: s.layer(F.pad(x, (4, 0, 4, 0))), layer=nn.Conv2d(8, 6, 3, dilation=2))),
    "a transposed convolution": lambda: Odd(
        lambda s, x: F.pad(s.layer(x), (0, 0, 1, 0))[:, :, :6, 1:-1], layer=nn.ConvTranspose2d(1, 6, 3)
    ),
    "tied weights": lambda: stack(TIED, nn.ReLU(), TIED, features=6),
    "a mask of zeros": lambda: Odd(
        lambda s, x: s.base(x) + F.conv2d(x, s.weight * s.shut),
        weight=nn.Parameter(torch.randn(6, 1, 1, 1)),
        shut=torch.zeros(1, 1, 1, 1),
        **base(),
    ),
    "a lazy layer": lambda: stack(nn.LazyConv2d(6, 1)),
    "bfloat16": lambda: stack().bfloat16(),
    "labels": lambda: Odd(
        lambda s, x, label: s.base(x) + s.embed(label)[:, :, None, None], classes=4, embed=nn.Embedding(4, 6), **base()
    ),
    "parts of other names": lambda: Odd(
        lambda s, x: s.base(x), levels=nn.ModuleList([nn.ReLU()]), classes=["cat"], order="raster", **base()
    ),
    "wrapped": lambda: nn.DataParallel(torch.compile(nn.DataParallel(network(classes=3)))),
    "parts that are wrapped": lambda: stack(torch.compile(MaskedConv2d("B", 8, 6, 3)), nn.DataParallel(nn.ReLU())),
    "a part that is wrapped twice": lambda: stack(nn.DataParallel(torch.compile(MaskedConv2d("B", 8, 6, 3)))),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_odd_models_pass_and_are_seen_through(name):
    torch.manual_seed(0)
    model = HONEST[name]()
    check_causal(model, SHAPE)
    field = receptive_field(model, (3, 3), SHAPE)
    assert field[:3].any() or field[3, :3].any()
    assert not field[3, 3:].any() and not field[4:].any()


def test_a_module_is_asked_as_it_says_of_itself():
    """Channels, size, levels and order: a wrong one would be refused, or accused."""
    columns = torch.arange(48).view(8, 6).T[None].contiguous()
    layer = MaskedConv2d("A", 1, 6, 3)
    for order in (columns, columns.numpy(), lambda shape: columns):
        check_causal(Odd(lambda s, x: s.layer(x.mT).mT, layer=layer).requires_grad_(False), (1, 6, 8), order=order)
        model = Odd(lambda s, x: s.layer(x.mT).mT, layer=layer)
        vars(model)["order"] = order
        check_causal(model, None if not callable(order) else (6, 8))
        assert "rows below" in accused(model, (6, 8), order=torch.arange(48).view(1, 6, 8))
    colour = Odd(lambda s, x: s.layer(x), layer=MaskedConv2d("A", 3, 6, 3, 3), image_channels=3, levels=2)
    check_causal(colour)
    assert receptive_field(colour, (3, 3)).shape == (28, 28)
    fixed = Odd(lambda s, x: s.base(x) + s.table, table=torch.randn(6, 10, 12), image_size=(10, 12), **base())
    check_causal(fixed)
    assert receptive_field(fixed, (3, 3)).shape == (10, 12)


def test_own_value_admits_type_b_and_nothing_more():
    torch.manual_seed(0)
    for size in (1, 3):
        check_causal(MaskedConv2d("B", 1, 4, size), SHAPE, own_value=True)
        assert "type B" in accused(MaskedConv2d("B", 1, 4, size))
    message = accused(OwnMask(opened(columns=1)), own_value=True)
    assert "one column too far" in message


def test_the_order_is_the_callers_else_the_models_else_raster():
    by_columns = torch.arange(36).view(6, 6).T[None]

    def transposed(x):
        return layer(x.mT).mT

    layer = MaskedConv2d("A", 1, 4, 3).double()
    check_causal(transposed, SHAPE, order=by_columns)
    assert "rows below are open" in accused(transposed)
    assert "follows another order" in accused(layer, order=by_columns)

    class Ordered(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = MaskedConv2d("A", 1, 4, 3)

        def forward(self, x):
            return self.layer(x.mT).mT

        def order(self, shape):
            return by_columns

    check_causal(Ordered(), SHAPE)
    assert "rows below are open" in accused(Ordered(), order=torch.arange(36).view(1, 6, 6))


def test_values_of_equal_rank_must_not_see_each_other():
    def left(x):  # each pixel sees its left neighbour
        return F.pad(x, (1, 0))[..., :-1]

    columns = torch.arange(6).expand(1, 6, 6)  # whole columns are drawn at once
    check_causal(left, SHAPE, order=columns)
    pairs = torch.div(columns, 2, rounding_mode="floor")
    assert "drawn in the same turn" in accused(left, order=pairs)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_left_as_it_was(training):
    model = network(dropout=0.5, after_stem=nn.BatchNorm2d(8, momentum=0.5)).train(training)
    model.zero = nn.Parameter(torch.zeros(3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    accused(model)
    receptive_field(model, (2, 2), SHAPE)
    total_probability(model, (1, 2), 8)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.dtype == before[name].dtype for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert all(module.training == training for module in model.modules())


# -- total probability ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape, levels, settings",
    [
        ((2, 2), 3, {}),
        ((2, 3), 3, {}),
        ((1, 3, 2), 2, {"dropout": 0.5}),
        ((3, 1, 2), 3, COLOUR),
    ],
)
def test_an_honest_model_spends_a_total_probability_of_one(shape, levels, settings):
    model = network(**settings, levels=levels)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2  # far from uniform
    assert total_probability(model, shape, levels) == pytest.approx(1, abs=1e-12)


def test_the_total_is_one_for_every_class():
    model = network(levels=3, classes=2)
    totals = [total_probability(model, (2, 2), 3, label=label) for label in (0, 1, None)]
    assert totals == pytest.approx([1, 1, 1], abs=1e-12)
    with pytest.raises(ValueError, match=r"label runs from 2"):
        total_probability(model, (2, 2), 3, label=2)


class Copy(nn.Module):
    """What a type B stem tends to: every pixel is predicted from itself, with certainty."""

    def forward(self, x):
        return 1e4 * F.one_hot(x[:, 0].long(), 3).movedim(-1, 1)


def test_a_model_that_copies_its_own_pixel_spends_eighty_one():
    assert total_probability(Copy(), (2, 2), 3) == pytest.approx(81, abs=1e-9)
    assert "type B stem" in accused(Copy(), levels=3)


def test_a_type_b_stem_does_not_sum_to_one():
    model = network(MaskedConv2d("B", 1, 8, 3), levels=3)
    assert abs(total_probability(model, (2, 2), 3) - 1) > 1e-3


def test_every_image_is_counted_once():
    class Table(nn.Module):
        """Gives each of 2 x 1 images over 3 levels its own weight, through the second logit."""

        def forward(self, x):
            seen.extend(x[:, 0, 0].long().tolist())
            return torch.zeros(len(x), 3, 1, 2)

    seen = []
    assert total_probability(Table(), (1, 2), 3) == pytest.approx(1)
    assert sorted(seen[1:]) == [
        [a, b] for a in range(3) for b in range(3)
    ]  # the first asks whether it takes such images


def test_learners_own_modules_are_summed_too():
    torch.manual_seed(0)
    own = nn.Sequential(OwnMask(opened()), nn.ReLU(), nn.Conv2d(8, 3, 1))
    assert total_probability(own, (2, 2), 3) == pytest.approx(1, abs=1e-12)
    hooked = nn.Sequential(OwnMask(opened()), nn.utils.weight_norm(nn.Conv2d(8, 3, 1)))
    forbids = Odd(lambda s, x: own(x).masked_fill(torch.arange(3).view(3, 1, 1) == 1, -torch.inf))
    for model in (hooked, forbids, nn.DataParallel(own)):
        assert total_probability(model, (2, 2), 3) == pytest.approx(1, abs=1e-6)
    single = Odd(lambda s, x: s.own_layers(x.float()), own_layers=own)  # refuses double precision
    assert total_probability(single, [numpy.int64(2), 2], numpy.int64(3)) == pytest.approx(1, abs=1e-4)


def test_too_many_images_and_other_levels_are_refused():
    with pytest.raises(ValueError, match=r"3\^16 = 43,046,721 images"):
        total_probability(network(levels=3), (4, 4), 3)
    for levels, shape in ((256, (28, 28)), (256, (200, 200)), (3, (12, 12))):
        with pytest.raises(ValueError) as caught:
            total_probability(stack(features=levels), shape, levels)
        message = str(caught.value)
        assert f"there are {levels}^{shape[0] * shape[1]} images" in message and len(message) < 200
    with pytest.raises(ValueError, match=r"levels is 4, but the model was built with levels=3"):
        total_probability(network(levels=3), (1, 2), 4)


# -- receptive field ------------------------------------------------------------------------------


def dilated(kernels, at, side):
    """Grows the receptive field backwards from one pixel, layer by layer, with boolean masks."""
    field = {at}
    for kernel in reversed(kernels):
        middle = kernel.shape[-1] // 2
        offsets = (kernel.view(kernel.shape[-2:]).nonzero() - middle).tolist()
        field = {
            (row + down, column + right)
            for row, column in field
            for down, right in offsets
            if 0 <= row + down < side and 0 <= column + right < side
        }
    seen = torch.zeros(side, side, dtype=torch.bool)
    for place in field:
        seen[place] = True
    return seen


def kernel(mask_type, size):
    return raster_mask(mask_type, 1, 1, size)


def kept(mask_type):  # a residual block: the middle kernel, or nothing through the skip
    return kernel(mask_type, 3)


@pytest.mark.parametrize("at", [(14, 14), (2, 25), (27, 3), (0, 5)])
def test_the_field_of_a_pixelcnn_equals_dilation(at):
    model = network(hidden=4, blocks=5)
    expected = dilated([kernel("A", 7), *[kept("B")] * 5], at, 28)
    field = receptive_field(model, at)
    assert field.shape == (28, 28) and field.dtype == torch.bool
    assert torch.equal(field, expected)
    if at == (14, 14):
        above = torch.zeros(28, 28, dtype=torch.bool)
        above[14 - 8 : 14, 14 - 8 : 14 + 9] = True  # 136 pixels
        assert int((above & ~field).sum()) == 15  # the blind spot
        assert int(field.sum()) == 136 - 15 + 8


def test_four_stacked_type_a_layers_see_on_their_row_only_from_the_fourth_pixel_on():
    torch.manual_seed(0)
    stack = nn.Sequential(*(MaskedConv2d("A", 1, 1, 3) for _ in range(4)))
    field = receptive_field(stack, (7, 7), (1, 15, 15))
    assert torch.equal(field, dilated([kernel("A", 3)] * 4, (7, 7), 15))
    assert field[7].nonzero().flatten().tolist() == [3]


def test_seven_small_layers_miss_21_of_105_pixels_above():
    torch.manual_seed(0)
    layers = [MaskedConv2d("A", 1, 4, 3), *(MaskedConv2d("B", 4, 4, 3) for _ in range(6))]
    field = receptive_field(nn.Sequential(*layers), (10, 10), (1, 20, 20))
    assert torch.equal(field, dilated([kernel("A", 3), *[kernel("B", 3)] * 6], (10, 10), 20))
    assert int((~field[3:10, 3:18]).sum()) == 21


def test_dead_relus_and_cancelling_weights_make_no_holes():
    model = network(hidden=4, blocks=2)
    expected = dilated([kernel("A", 7), *[kept("B")] * 2], (6, 6), 13)
    with torch.no_grad():
        for block in model.blocks:
            block.squeeze.bias.fill_(-100)  # every ReLU behind it is shut
        model.head[-1].weight.fill_(0)
    assert torch.equal(receptive_field(model, (6, 6), (1, 13, 13)), expected)

    class Softmax(nn.Module):  # whose outputs always sum to 1
        def forward(self, x):
            return model.double()(x).softmax(1)

    assert receptive_field(Softmax(), (6, 6), (1, 13, 13)).sum() == 0  # dead as it stands
    model = network(hidden=4, blocks=2)
    assert torch.equal(receptive_field(Softmax(), (6, 6), (1, 13, 13)), expected)


def test_a_colour_pixel_sees_its_own_earlier_channels_unless_alone():
    field = receptive_field(network(**COLOUR), (3, 3), (3, 7, 7))
    assert field[3, 3] and not field[3, 4:].any() and not field[4:].any()
    assert field[:3].all() and field[3, :3].all()


def test_a_model_that_turns_its_input_into_integers_is_asked_by_change():
    torch.manual_seed(0)
    layer = MaskedConv2d("A", 1, 4, 3).double()

    class OneHot(nn.Module):
        def forward(self, x):
            return layer(x.long().double())

    expected = dilated([kernel("A", 3)], (2, 2), 5)
    assert torch.equal(receptive_field(OneHot(), (2, 2), (1, 5, 5)), expected)


def test_the_field_of_a_conditional_model_and_of_the_first_pixel():
    assert receptive_field(network(classes=3), (0, 0), SHAPE).sum() == 0
    assert receptive_field(network(classes=3), (1, 1), SHAPE).any()


@pytest.mark.parametrize("at", [(6, 0), (0, 6), (-1, 0), 3, None, (1.5, 2), (1, 2, 3), "ab"])
def test_a_pixel_outside_the_image_is_refused(at):
    with pytest.raises(ValueError, match=r"give \(row, column\) within 6 x 6"):
        receptive_field(network(), at, SHAPE)


def test_one_level_is_refused_instead_of_searched_for_another():
    with pytest.raises(ValueError, match="levels is 1"):
        check_causal(nn.Identity(), levels=1)


# -- nearest neighbours ---------------------------------------------------------------------------


def some_images(count, seed=0, channels=1, height=9, width=8):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def moved_by(images, down, right, fill=0):
    moved = torch.full_like(images, fill)
    height, width = images.shape[-2:]
    rows, columns = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
    back_rows, back_columns = slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right))
    moved[..., rows, columns] = images[..., back_rows, back_columns]
    return moved


def root_mean_square_by_loop(image, other, shift):
    """Compares value by value, over all pairs of places that lie (down, right) apart."""
    channels, height, width = image.shape
    best = float("inf")
    for down, right in itertools.product(range(-shift, shift + 1), repeat=2):
        squares = [
            (int(image[channel, row, column]) - int(other[channel, row + down, column + right])) ** 2
            for channel in range(channels)
            for row in range(height)
            for column in range(width)
            if 0 <= row + down < height and 0 <= column + right < width
        ]
        best = min(best, (sum(squares) / len(squares)) ** 0.5)
    return best


@pytest.mark.parametrize("fill", [0, 200])
@pytest.mark.parametrize("channels", [1, 3])
def test_planted_and_shifted_copies_are_found_with_distance_0(channels, fill):
    among = some_images(60, channels=channels)
    shifts = list(itertools.product((-2, -1, 0, 1, 2), repeat=2))
    chosen = torch.randperm(60, generator=torch.Generator().manual_seed(1))[: len(shifts)]
    copies = torch.cat([moved_by(among[[k]], *by, fill) for k, by in zip(chosen.tolist(), shifts, strict=True)])
    found = nearest_neighbours(copies, among, shift=2)
    assert torch.equal(found.indices[:, 0], chosen) and not found.distances.any()
    near = [max(map(abs, by)) <= 1 for by in shifts]
    found = nearest_neighbours(copies, among, shift=1)
    assert (found.distances[:, 0] == 0).tolist() == near
    found = nearest_neighbours(copies, among, shift=0)
    assert (found.distances[:, 0] == 0).tolist() == [by == (0, 0) for by in shifts]


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_neighbours_are_those_of_a_loop(shift):
    images, among = some_images(3, seed=1, channels=2), some_images(12, seed=2, channels=2)
    expected = torch.tensor([[root_mean_square_by_loop(a, b, shift) for b in among] for a in images])
    found = nearest_neighbours(images, among, count=12, shift=shift)
    values, order = expected.double().sort(dim=1)
    torch.testing.assert_close(found.distances, values, rtol=1e-6, atol=0)
    assert torch.equal(found.indices, order)
    fewer = nearest_neighbours(images, among, count=5, shift=shift)
    assert torch.equal(fewer.indices, found.indices[:, :5]) and torch.equal(fewer.distances, found.distances[:, :5])


def test_equal_images_keep_their_order_and_chunks_do_not_matter(monkeypatch):
    images = some_images(7, seed=3)
    among = some_images(5).repeat(6, 1, 1, 1)  # each is there six times
    whole = nearest_neighbours(images, among, count=9)
    assert (whole.indices[:, :6] == whole.indices[:, :1] + torch.arange(0, 30, 5)).all()
    for chunk, product in ((1, 1), (2, 4), (64, 7)):
        monkeypatch.setattr(neighbours, "CHUNK", chunk)
        monkeypatch.setattr(neighbours, "PER_PRODUCT", product)
        parts = nearest_neighbours(images, among, count=9)
        assert torch.equal(parts.indices, whole.indices) and torch.equal(parts.distances, whole.distances)


def test_no_images_have_no_neighbours():
    found = nearest_neighbours(some_images(0), some_images(4), count=2)
    assert found.indices.shape == found.distances.shape == (0, 2)


@pytest.mark.parametrize(
    ("shape", "keywords", "words"),
    [
        ((2, 1, 9, 9), {}, r"\(2, 1, 9, 9\), and among \(5, 1, 9, 8\)"),
        ((1, 9, 8), {}, "give \\[N, C, H, W\\]"),
        ((2, 1, 9, 8), {"count": 6}, "count is 6: give 1 to 5"),
        ((2, 1, 9, 8), {"count": 0}, "count is 0"),
        ((2, 1, 9, 8), {"shift": 3}, "shift is 3: give 0 to 2"),
        ((2, 1, 9, 8), {"shift": -1}, "shift is -1"),
    ],
)
def test_neighbours_that_cannot_be_asked_for_are_refused(shape, keywords, words):
    with pytest.raises(ValueError, match=words):
        nearest_neighbours(torch.zeros(shape, dtype=torch.uint8), some_images(5), **keywords)


# -- blind spot -----------------------------------------------------------------------------------


def walked_holes(kernels, at, side):
    """Counts holes by walking over taps: no network, no gradient, no window but the kernels' reach."""
    seen = dilated(kernels, at, side)
    pixels = [tuple(pixel) for pixel in seen.nonzero().tolist()]
    up = max((at[0] - row for row, _ in pixels), default=0)
    across = max((abs(column - at[1]) for _, column in pixels), default=0)
    return {
        (row, column)
        for row in range(side)
        for column in range(side)
        if (row, column) < at and at[0] - row <= up and abs(column - at[1]) <= across and not seen[row, column]
    }


def places(mask):
    return {tuple(place) for place in mask.nonzero().tolist()}


def stack_of(types, sizes):
    layers = [MaskedConv2d(kind, 1, 1, size) for kind, size in zip(types, sizes, strict=True)]
    return nn.Sequential(*layers), [kernel(kind, size) for kind, size in zip(types, sizes, strict=True)]


def test_seven_small_layers_have_21_holes_and_pixelcnn_15():
    torch.manual_seed(0)
    seven, _ = stack_of("ABBBBBB", [3] * 7)
    holes = blind_spot(seven, (14, 14))
    assert holes.dtype == torch.bool and holes.shape == (28, 28)
    assert int(holes.sum()) == 21 and not holes[14:].any() and not holes[:, :15].any()
    assert int(reached_window(receptive_field(seven, (14, 14)), (14, 14))[:14].sum()) == 105
    model = network(hidden=4, blocks=5)
    assert int(blind_spot(model, (14, 14)).sum()) == 15
    assert int(reached_window(receptive_field(model, (14, 14)), (14, 14))[:14].sum()) == 136


@pytest.mark.parametrize("seed", range(12))
def test_holes_of_random_stacks_equal_a_walk_over_taps_in_the_middle_and_at_borders(seed):
    chance = random.Random(seed)
    depth, side = chance.randint(1, 5), 13
    types = "A" + "".join(chance.choice("BBBA") for _ in range(depth - 1))
    net, kernels = stack_of(types, [chance.choice((3, 5, 7)) for _ in range(depth)])
    corners = [(0, 0), (0, 12), (12, 0), (12, 12), (1, 11)]
    for at in [(chance.randrange(side), chance.randrange(side)) for _ in range(4)] + [chance.choice(corners)]:
        assert places(blind_spot(net, at, (1, side, side))) == walked_holes(kernels, at, side), (types, at)


@pytest.mark.parametrize("blocks", (1, 3, 6))
@pytest.mark.parametrize("at", [(14, 14), (3, 26), (27, 0), (1, 1), (0, 20)])
def test_gated_pixelcnn_has_no_holes(blocks, at):
    model = GatedPixelCNN(levels=4, hidden=4, blocks=blocks, classes=3)
    assert receptive_field(model, at).any() and not blind_spot(model, at).any()


def test_type_a_layers_miss_their_nearest_neighbours():
    net, _ = stack_of("AAAA", [3] * 4)
    assert blind_spot(net, (7, 7), (1, 15, 15))[7].nonzero().flatten().tolist() == [4, 5, 6]


def test_a_learners_quarter_mask_is_blind_on_the_whole_right():
    mask = raster_mask("A", 1, 1, 5)
    mask[..., 3:] = False
    net = nn.Sequential(OwnMask(mask, 4))
    holes = blind_spot(net, (6, 6), (1, 9, 9))
    assert places(holes) == {(row, column) for row in (4, 5) for column in (7, 8)}


def test_holes_follow_the_models_own_order():
    net, _ = stack_of("ABBB", [3] * 4)

    class FromTheEnd(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x.flip(2, 3)).flip(2, 3)

        def order(self, shape):
            return torch.arange(shape[1] * shape[2]).view(shape).flip(1, 2)

    holes = blind_spot(FromTheEnd(), (6, 6), (1, 13, 13))
    assert int(holes.sum()) == 6
    assert torch.equal(holes, blind_spot(net, (6, 6), (1, 13, 13)).flip(0, 1))


def test_holes_in_colour_and_of_the_first_pixel():
    model = network(**{**COLOUR, "blocks": 2})
    assert int(blind_spot(model, (9, 9), (3, 15, 15)).sum()) == 3
    assert not blind_spot(model, (0, 0), (3, 15, 15)).any()
    with pytest.raises(ValueError, match=r"give \(row, column\) within 6 x 6"):
        blind_spot(network(), (6, 0), SHAPE)


# -- effective receptive field --------------------------------------------------------------------


def by_small_changes(model, images, at, label=None, step=1e-4):
    """Takes the derivative of log p(true level) by changing one input value at a time."""
    model = model.double().eval()
    total = torch.zeros(images.shape[2:], dtype=torch.double)
    values = images[0].numel()
    for k, image in enumerate(images):
        own = None if label is None else label[k : k + 1].expand(2 * values)
        steps = step * torch.eye(values, dtype=torch.double).view(values, *image.shape)
        with torch.no_grad():
            logits = model.head.levels_last(model(torch.cat([image + steps, image - steps]), own))[..., at[0], at[1], :]
        true = image[:, at[0], at[1]].long()
        nats = logits.log_softmax(-1)[:, torch.arange(len(true)), true].sum(1)
        total += ((nats[:values] - nats[values:]) / (2 * step)).abs().view(image.shape).sum(0)
    return total / len(images)


@pytest.mark.parametrize("settings", [{}, {"classes": 3}, COLOUR], ids=["grey", "classes", "colour"])
def test_the_weights_are_derivatives_of_the_true_levels_log_probability(settings):
    model = network(seed=3, **settings)
    with torch.no_grad():
        for value in model.parameters():
            value *= 1.5
    shape = (model.image_channels, 6, 6)
    images = torch.randint(8, (3, *shape), generator=torch.Generator().manual_seed(1))
    label = torch.tensor([0, 2, 1]) if "classes" in settings else None
    weight = effective_receptive_field(model, images.to(torch.uint8), (4, 3), label)
    assert weight.shape == (6, 6) and weight.dtype == torch.float32
    torch.testing.assert_close(weight.double(), by_small_changes(model, images, (4, 3), label), rtol=1e-3, atol=1e-7)


def test_signs_do_not_cancel_between_images_and_other_outputs_have_no_part():
    class LeftNeighbour(nn.Module):  # log-odds of level 1: three times the pixel to the left
        def forward(self, x):
            return torch.cat([0 * x, 3 * F.pad(x, (1, 0))[..., :-1]], 1)

    images = torch.zeros(2, 1, 2, 4, dtype=torch.uint8)
    images[0, 0, 1, 2] = 1  # the true levels differ, and so do the gradients' signs
    expected = torch.zeros(2, 4)
    expected[1, 1] = 1.5
    torch.testing.assert_close(effective_receptive_field(LeftNeighbour(), images, (1, 2)), expected)


def test_many_images_count_alike_and_labels_go_with_them():
    model = network(classes=3)
    images = torch.randint(8, (20, 1, 6, 6), dtype=torch.uint8)
    label = torch.arange(20) % 3
    singly = [effective_receptive_field(model, images[k : k + 1], (3, 3), label[k : k + 1]) for k in range(20)]
    together = effective_receptive_field(model, images, (3, 3), label)
    torch.testing.assert_close(together, torch.stack(singly).mean(0))
    assert not torch.allclose(together, effective_receptive_field(model, images, (3, 3), 0))
    with pytest.raises(ValueError, match="label is missing"):
        effective_receptive_field(model, images, (3, 3))


def test_weight_lies_within_the_receptive_field_and_leaves_the_model_alone():
    model = network(hidden=16, blocks=2, dropout=0.5).train()
    images = torch.randint(8, (8, 1, 9, 9), dtype=torch.uint8)
    with torch.no_grad():
        weight = effective_receptive_field(model, images, (7, 4))
    assert torch.equal(weight, effective_receptive_field(model, images, (7, 4)))  # dropout is off
    seen = receptive_field(model, (7, 4), (1, 9, 9))
    assert weight[seen].gt(0).any() and weight[~seen].eq(0).all()
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_model_without_a_gradient_and_a_pixel_outside_are_refused():
    class OneHot(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = MaskedConv2d("A", 1, 4, 3)

        def forward(self, x):
            return self.layer(x.long().to(x.dtype))

    images = torch.zeros(1, 1, 5, 5, dtype=torch.uint8)
    for given, words in (
        (images.float(), r"images has type torch.float32 and shape \(1, 1, 5, 5\): give integers"),
        (images[0], r"shape \(1, 5, 5\): give integers \[N, C, H, W\]"),
        (images.permute(0, 2, 3, 1), r"channels last\? give images.permute\(0, 3, 1, 2\)"),
        (images + 9, "values from 9 to 9, but the model knows 8 levels: give integers from 0 to 7"),
        (images[:0], r"shape \(0, 1, 5, 5\): give integers \[N, C, H, W\], N > 0"),
        ("a path", "images is 'a path': give integers"),
    ):
        with pytest.raises(ValueError, match=words):
            effective_receptive_field(network(), given, (2, 2))
    of_numpy = effective_receptive_field(network(), images.numpy().astype(numpy.uint16), (2, 2))
    assert torch.equal(of_numpy, effective_receptive_field(network(), images, (2, 2)))
    with pytest.raises(ValueError, match="turns images into integers"):
        effective_receptive_field(OneHot(), images, (2, 2))
    with pytest.raises(ValueError, match="within 5 x 5"):
        effective_receptive_field(network(), images, (5, 0))


# Calibration: is it as often right as it says?


def beliefs(count=20_000, classes=4, sharpened=1.0):
    """Log-likelihoods whose posterior is right as often as it says, made `sharpened` times as sure, and the truth."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(count, classes, generator=generator, dtype=torch.float64) - 1500
    truth = torch.multinomial(scores.softmax(1), 1, generator=generator)[:, 0]
    return sharpened * scores, truth


def test_posterior_adds_up_and_forgets_what_all_classes_share():
    scores, _ = beliefs(50)
    torch.testing.assert_close(posterior(scores).sum(1), torch.ones(50, dtype=torch.float64))
    torch.testing.assert_close(posterior(scores), posterior(scores + 1e4 * torch.randn(50, 1, dtype=torch.float64)))
    with pytest.raises(ValueError, match="above 0"):
        posterior(scores, 0)


@pytest.mark.parametrize("sharpened", [0.5, 1.0, 8.0])
def test_best_temperature_undoes_what_made_the_rule_too_sure(sharpened):
    scores, truth = beliefs(sharpened=sharpened)
    assert best_temperature(scores, truth) == pytest.approx(sharpened, rel=0.05)


def test_reliability_is_honest_of_the_honest_and_tells_the_overconfident():
    edges = (0, 0.4, 0.6, 0.8)
    scores, truth = beliefs()
    honest, sure = (reliability(posterior(scores, t), truth, edges) for t in (1, 0.2))
    assert honest.count.sum() == len(truth) and len(honest.count) == 4 and (honest.count > 50).all()
    assert ((honest.low < honest.said) & (honest.said < honest.high)).all()
    assert (sure.high < sure.said)[1:].all()


def test_reliability_leaves_empty_bins_out_and_refuses_what_lies_below_all():
    probabilities, truth = torch.tensor([[0.9, 0.1], [1.0, 0.0]]), torch.tensor([0, 1])
    found = reliability(probabilities, truth, (0.5, 0.6, 0.85))
    assert found.count.tolist() == [2] and found.right.tolist() == [0.5]
    with pytest.raises(ValueError, match="below the first edge"):
        reliability(probabilities, truth, (0.95,))
