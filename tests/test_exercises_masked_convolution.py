"""The checks of notebook 01: right answers pass, typical wrong ones are named for what they are."""

import itertools
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pixelhelpers import CausalityError, MaskedConv2d, check_causal, exercises, load_images
from pixelhelpers.layers import raster_mask


def verdict(capsys, check, answer):
    check(answer)
    return capsys.readouterr().out


# -- a masked convolution of one's own ------------------------------------------------------------


def edited(change):
    """Makes a learner's class whose mask `[k, k]` is `change(right mask, centre, mask type)`."""

    class Learned(nn.Conv2d):
        def __init__(self, mask_type, inputs, outputs, size):
            super().__init__(inputs, outputs, size, padding=size // 2)
            mask = raster_mask(mask_type, 1, 1, size)[0, 0].float()
            self.register_buffer("mask", change(mask, size // 2, mask_type))

        def forward(self, x):
            return self._conv_forward(x, self.weight * self.mask, self.bias)

    return Learned


def put(rows, columns, value, only=None):
    def change(mask, c, mask_type):
        if only in (None, mask_type):
            mask[rows(c), columns(c)] = value
        return mask

    return edited(change)


def learner(forward, init=lambda self: None):
    """Makes a learner's class that has the right mask and its own ways."""

    class Learned(nn.Conv2d):
        def __init__(self, mask_type, inputs, outputs, size):
            super().__init__(inputs, outputs, size, padding=size // 2)
            self.register_buffer("mask", raster_mask(mask_type, 1, 1, size)[0, 0].float())
            init(self)

    Learned.forward = forward
    return Learned


def plain(self, x):
    return self._conv_forward(x, self.weight, self.bias)


def product(self, x):
    return self._conv_forward(x, self.weight * self.mask, self.bias)


def in_place(self, x):
    self.weight.data *= self.mask
    return plain(self, x)


def once(self):
    self.weight.data *= self.mask


def circular(self):
    self.padding_mode = "circular"
    self._reversed_padding_repeated_twice = [self.padding[0]] * 4


def as_attribute(self):
    mask = self.mask
    del self.mask
    self.mask = mask


def as_parameter(self):
    mask = self.mask
    del self.mask
    self.mask = nn.Parameter(mask)


def made_in_forward(self, x):
    mask = torch.zeros(self.kernel_size)
    mask[:] = self.mask.cpu() if self.mask.device.type == "cpu" else 1.0
    return self._conv_forward(x, self.weight * mask, self.bias)


def first_pair_only(mask, c, mask_type):
    full = torch.ones(3, 2, *mask.shape)
    full[0, 0] = mask
    return full


def convolved(weight=lambda self: self.weight * self.mask, bias=lambda self: self.bias, after=lambda y, x: y):
    """Makes a learner's class with the right mask that takes its weights and bias in some way."""

    def forward(self, x):
        return after(F.conv2d(x, weight(self), bias(self), padding=self.padding), x)

    return learner(forward)


def product_without_gradient(self):
    with torch.no_grad():
        return self.weight * self.mask


def masks_the_image(self, x):
    return plain(self, x * F.interpolate(self.mask[None, None], x.shape[-2:]))


EVERYWHERE, CENTRE = (lambda c: slice(None)), (lambda c: c)
WRONG = {
    "centre open in A": (put(CENTRE, CENTRE, 1, "A"), "sees the very value it predicts"),
    "centre shut in B": (put(CENTRE, CENTRE, 0, "B"), "Type B, .*the centre is shut. In type B"),
    "A and B exchanged": (
        edited(lambda m, c, t: raster_mask("BA"[t == "B"], 1, 1, 2 * c + 1)[0, 0].float()),
        "Type A, .*the centre is open",
    ),
    "one column too far": (
        put(CENTRE, lambda c: slice(c, c + 2), 1, "A"),
        "the centre row is open one column too far",
    ),
    "centre row all open": (
        put(CENTRE, lambda c: slice(c + 1, None), 1),
        "the centre row is open one column too far",
    ),
    "transposed": (edited(lambda m, c, t: m.T.contiguous()), "the mask is transposed"),
    "inverted": (edited(lambda m, c, t: 1 - m), "the wrong way round"),
    "mirrored": (edited(lambda m, c, t: m.flip(0, 1)), "the wrong way round"),
    "rows below open": (put(lambda c: slice(c + 1, None), EVERYWHERE, 1), "rows below are open"),
    "one row below open": (put(lambda c: c + 1, EVERYWHERE, 1), "Shut every row after row 1"),
    "circulating mask": (
        edited(lambda m, c, t: (torch.arange(2 * c + 1) <= c).float().expand_as(m).clone()),
        "rows below are open",
    ),
    "no mask": (learner(plain), "all taps act, as if there were no mask"),
    "all shut": (edited(lambda m, c, t: 0 * m), "no tap acts"),
    "only above and left": (
        put(lambda c: slice(0, c), lambda c: slice(c + 1, None), 0),
        "taps above and to the right of the centre are shut. Nothing leaks",
    ),
    "nothing on the own row": (
        put(CENTRE, lambda c: slice(0, c), 0),
        "the pixels to the left on the centre row are shut",
    ),
    "nothing above": (put(lambda c: slice(0, c), EVERYWHERE, 0), "rows above are shut"),
    "first pair of features only": (edited(first_pair_only), "some features are masked otherwise"),
    "applied once": (learner(plain, once), "after one step of the optimiser shut taps are awake"),
    "in place": (learner(in_place), "masked weights still get a gradient"),
    "a plain tensor": (learner(product, as_attribute), "The mask is a plain tensor"),
    "a parameter": (learner(product, as_parameter), r"The mask \(mask\) is a parameter"),
    "made in forward": (learner(made_in_forward), "A tensor is made in forward, on the CPU"),
    "no padding": (
        learner(lambda self, x: F.conv2d(x, self.weight * self.mask, self.bias)),
        "The image shrinks from 6×7 to 4×5",
    ),
    "too few features": (
        learner(lambda self, x: product(self, x)[:, :1]),
        r"became \(1, 1, 6, 7\): it must become \(1, 3, 6, 7\)",
    ),
    "masks the image": (
        learner(lambda self, x: self._conv_forward(x * 0, self.weight, self.bias)),
        "no tap acts",
    ),
    "wraps around": (learner(product, circular), "wraps around the border"),
    "weight.data": (convolved(lambda self: self.weight.data * self.mask), "no gradient reaches self.weight"),
    "no_grad": (convolved(product_without_gradient), "no gradient reaches self.weight"),
    "bias detached": (convolved(bias=lambda self: self.bias.detach()), "no gradient reaches self.bias"),
    "bias left out": (convolved(bias=lambda self: None), "The bias is left out"),
    "bias halved": (convolved(bias=lambda self: self.bias / 2), "not self.bias as it is"),
    "bias twice": (convolved(bias=lambda self: 2 * self.bias), "not self.bias as it is"),
    "doubled": (convolved(lambda self: 2 * self.weight * self.mask), "without another factor"),
    "rescaled": (convolved(lambda self: self.weight * self.mask / self.mask.mean()), "without another factor"),
    "sizes of the weights": (convolved(lambda self: self.weight.abs() * self.mask), "do not act as they are"),
    "a ReLU inside": (convolved(after=lambda y, x: y.relu()), "An activation such as ReLU comes after the layer"),
    "a skip": (convolved(after=lambda y, x: y + x if y.shape == x.shape else y), "The input is added to the output"),
    "masks a place of the image": (learner(masks_the_image), "you mask the image"),
    "1 minus the mask subtracted": (convolved(lambda self: self.weight - (1 - self.mask)), "all taps act"),
    "a layer": (MaskedConv2d("A", 1, 1, 3), "Give the class itself"),
    "a function": (lambda *settings: torch.zeros(3), "Calling your class gave a Tensor"),
    "an error": (nn.Conv2d, r"Your code raised \w+"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_masked_convolution_is_named(capsys, name):
    answer, words = WRONG[name]
    said = verdict(capsys, exercises.check_masked_convolution, answer)
    assert said.startswith("✗") and re.search(words, said), said


class OnlyLiveTaps(nn.Module):
    """Another right answer: two plain convolutions, one above and one on the row."""

    def __init__(self, mask_type, inputs, outputs, size):
        super().__init__()
        half = size // 2
        self.half, self.own = half, mask_type == "B"
        self.above = nn.Conv2d(inputs, outputs, (half, size))
        self.beside = nn.Conv2d(inputs, outputs, (1, half + self.own), bias=False)

    def forward(self, x):
        h, (height, width) = self.half, x.shape[-2:]
        above = self.above(F.pad(x, (h, h, h, 0)))[:, :, :height]
        return above + self.beside(F.pad(x, (h, 0, 0, 0)))[..., :width]


def by_einsum(self, x):
    return F.conv2d(x, torch.einsum("oikl,kl->oikl", self.weight, self.mask), padding="same") + self.bias[:, None, None]


def by_where(self, x):
    return self._conv_forward(x, self.weight.where(self.mask.bool(), 0.0), self.bias)


@pytest.mark.parametrize(
    "answer", [MaskedConv2d, learner(product), learner(by_einsum), learner(by_where), OnlyLiveTaps]
)
def test_right_masked_convolutions_pass(capsys, answer):
    assert verdict(capsys, exercises.check_masked_convolution, answer).startswith("✓")


class Stub(nn.Conv2d):
    def __init__(self, mask_type, in_channels, out_channels, kernel_size):
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        ...

    def forward(self, x): ...


class Begun(Stub):
    def forward(self, x):
        raise NotImplementedError


@pytest.mark.parametrize("answer", [Stub, Begun, None, ...])
def test_an_empty_masked_convolution_is_not_solved_yet(capsys, answer):
    said = verdict(capsys, exercises.check_masked_convolution, answer)
    assert said.startswith("✎ Not solved yet")


def test_the_check_leaves_the_learners_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    exercises.check_masked_convolution(MaskedConv2d)
    assert torch.equal(torch.rand(3), expected)


# -- which masks leak? ----------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [[2, 3, 5], (5, 3, 2), {2, 3, 5}])
def test_the_leaking_masks_pass_in_any_order_and_container(capsys, answer):
    said = verdict(capsys, exercises.check_leaking_masks, answer)
    assert said.startswith("✓ 2, 3 and 5 leak")


@pytest.mark.parametrize(
    "answer, words",
    [
        ([1, 2, 3, 5], "Mask 1 does not leak: this is type A"),
        ([2, 3, 4, 5], "Mask 4 does not leak: it wastes the pixel above to the right"),
        ([1, 4], "Mask 1 does not leak"),
        ([], "3 more masks leak. Go through those that you left out"),
        (5, "2 more masks leak. Go through"),
        ([2, 5], "One more mask leaks. Go through"),
        ([2, 3, 6], r"Give the numbers of the masks that leak, like \[1, 4\]"),
        ("two", "Give the numbers of the masks"),
        (0.5, "Give the numbers of the masks"),
    ],
)
def test_wrongly_judged_masks_are_named(capsys, answer, words):
    said = verdict(capsys, exercises.check_leaking_masks, answer)
    assert said.startswith("✗") and re.search(words, said), said


@pytest.mark.parametrize("answer", [..., None, [...]])
def test_no_judgement_is_not_solved_yet(capsys, answer):
    said = verdict(capsys, exercises.check_leaking_masks, answer)
    assert said.startswith("✎ Not solved yet")


# -- colour ---------------------------------------------------------------------------------------


def lower(diagonal_of):
    return lambda mask_type: torch.ones(3, 3).tril(diagonal_of[mask_type])


def test_the_right_centre_passes_as_tensor_or_lists(capsys):
    right = lower({"A": -1, "B": 0})
    for answer in (right, lambda t: right(t).bool(), lambda t: right(t).tolist()):
        assert verdict(capsys, exercises.check_centre_tap, answer).startswith("✓")


@pytest.mark.parametrize(
    "answer, words",
    [
        (lower({"A": 0, "B": 0}), "Type A: R sees R, the value that it predicts"),
        (lower({"A": -1, "B": -1}), "Type B: R does not see R. After the first layer"),
        (lower({"A": 0, "B": -1}), "Type A: R sees R"),
        (lambda t: torch.ones(3, 3).triu(int(t == "A")), "Type A: the table is transposed"),
        (lambda t: torch.ones(3, 3), "Type A: R sees R"),
        (lambda t: torch.eye(3) if t == "B" else torch.zeros(3, 3), "Type A: G does not see R"),
        (lambda t: torch.ones(3, 3) - torch.eye(3), "Type A: R sees G, which is drawn later"),
        (lambda t: 2 * torch.ones(3, 3).tril(-(t == "A")), "the table holds other numbers"),
        (lambda t: torch.ones(3), r"Type A: the table has shape \(3,\): give \[3, 3\]"),
        (lambda t: torch.ones(3, 3)[5], "Your code raised IndexError"),
    ],
)
def test_a_wrong_centre_is_named(capsys, answer, words):
    said = verdict(capsys, exercises.check_centre_tap, answer)
    assert said.startswith("✗") and re.search(words, said), said


@pytest.mark.parametrize("answer", [lambda t: ..., lambda t: None, ...])
def test_an_empty_centre_is_not_solved_yet(capsys, answer):
    said = verdict(capsys, exercises.check_centre_tap, answer)
    assert said.startswith("✎ Not solved yet")


# -- find the leaks -------------------------------------------------------------------------------

TRUTH = dict(enumerate(exercises.masked_convolution.FAULTS, 1))


@pytest.fixture(scope="module")
def suspects():
    return exercises.make_suspects(load_images("digits").train, steps=60)


@pytest.mark.parametrize("number", TRUTH)
def test_check_causal_tells_what_the_exercise_asks_for(suspects, number):
    words = {
        "InstanceNorm": "InstanceNorm2d",
        "mask applied once": "rows below are open",
        "roll": "wraps around the border",
        "type B stem": "type B stem",
        "BatchNorm": "BatchNorm2d",
        "one column too far": "one column too far to the right",
    }
    if TRUTH[number] == "honest":
        check_causal(suspects[number], (1, 6, 6))
        return
    with pytest.raises(CausalityError, match=words[TRUTH[number]]):
        check_causal(suspects[number], (1, 6, 6))


def test_the_leaks_through_taps_pay_less_than_the_honest_network_and_nothing_shows_by_printing(suspects):
    bits = {TRUTH[number]: suspect.bits for number, suspect in suspects.items()}
    assert all(bits[name] < bits["honest"] / 2 for name in ("type B stem", "one column too far", "mask applied once"))
    assert {repr(suspect) for suspect in suspects.values()} == {"Suspect()"}


@pytest.mark.parametrize(
    "answer",
    [
        TRUTH,
        dict(reversed(TRUTH.items())),
        {number: name.upper() for number, name in TRUTH.items()},
        TRUTH | {1: "nn.InstanceNorm2d"[3:], 6: "BatchNorm2d"},
    ],
)
def test_the_right_names_pass_however_they_are_written(capsys, answer):
    assert verdict(capsys, exercises.check_leaks, answer).startswith("✓ All seven")


@pytest.mark.parametrize("one, other", list(itertools.combinations(TRUTH, 2)))
def test_two_names_exchanged_are_found_and_not_told(capsys, one, other):
    said = verdict(capsys, exercises.check_leaks, TRUTH | {one: TRUTH[other], other: TRUTH[one]})
    assert said.startswith(f"✗ Not yet. 2 of 7 have another name. Look again at network {one}")
    assert repr(TRUTH[other]) in said and repr(TRUTH[one]) not in said


@pytest.mark.parametrize(
    "answer, words",
    [
        (dict.fromkeys(TRUTH, "honest"), "6 of 7 have another name"),
        (list(TRUTH.values()), "Give a dictionary"),
        ({number - 1: name for number, name in TRUTH.items()}, "There is no network 0"),
        (TRUTH | {4: ...}, "Network 4 has no name yet"),
        ({3: "honest"}, "Networks 1, 2, 4, 5, 6, 7 have no name yet"),
        (TRUTH | {4: "rolled"}, "'rolled' is none of the names"),
        (TRUTH | {4: 4}, "4 is none of the names"),
    ],
)
def test_names_that_cannot_be_judged_are_said(capsys, answer, words):
    said = verdict(capsys, exercises.check_leaks, answer)
    assert said.startswith("✗") and words in said


# -- an order of one's own ------------------------------------------------------------------------


def sorted_by(key):
    """Makes an order from what is sorted by: `key(row, column, height, width)`."""

    def order(height, width):
        places = [(row, column) for row in range(height) for column in range(width)]
        rank = torch.empty(height, width, dtype=torch.long)
        for number, (row, column) in enumerate(sorted(places, key=lambda at: key(*at, height, width))):
            rank[row, column] = number
        return rank

    return order


DIAGONAL = sorted_by(lambda r, c, h, w: (r + c, r))


@pytest.mark.parametrize(
    "answer",
    [
        DIAGONAL,
        sorted_by(lambda r, c, h, w: (2 * r + c, r)),
        sorted_by(lambda r, c, h, w: r * 2**0.5 + c),
        sorted_by(lambda r, c, h, w: (c - r, r)),
        lambda height, width: DIAGONAL(height, width).tolist(),
    ],
)
def test_orders_with_one_mask_pass(capsys, answer):
    assert verdict(capsys, exercises.check_an_order, answer).startswith("✓ One mask for every pixel: 4 of 9")


@pytest.mark.parametrize(
    "answer, words",
    [
        (sorted_by(lambda r, c, h, w: (r, c)), "That is raster order"),
        (sorted_by(lambda r, c, h, w: (c, r)), "That is raster order"),
        (sorted_by(lambda r, c, h, w: (-r, -c)), "mirror image"),
        (sorted_by(lambda r, c, h, w: (r, -c)), "mirror image"),
        (sorted_by(lambda r, c, h, w: (r, c if r % 2 == 0 else -c)), "No single mask"),
        (sorted_by(lambda r, c, h, w: (r + c, r if (r + c) % 2 else -r)), "No single mask"),
        (sorted_by(lambda r, c, h, w: ((r + c) % 2, r, c)), "No single mask"),
        (sorted_by(lambda r, c, h, w: (r % 2, r, c)), "No single mask"),
        (sorted_by(lambda r, c, h, w: (r // 2, c // 2, r, c)), "No single mask"),
        (sorted_by(lambda r, c, h, w: (abs(r - h // 2) + abs(c - w // 2), r, c)), "No single mask"),
        (sorted_by(lambda r, c, h, w: (min(r, c, h - 1 - r, w - 1 - c), r, c)), "No single mask"),
        (sorted_by(lambda r, c, h, w: (r * c, r, c)), "No single mask"),
        (lambda height, width: torch.arange(height)[:, None] + torch.arange(width), "a rank of its own"),
        (lambda height, width: 1 + DIAGONAL(height, width), "a rank of its own"),
        (lambda height, width: torch.arange(height * width), "a rank for every pixel"),
        (lambda height, width: DIAGONAL(width, height), "a rank for every pixel"),
        (lambda height, width: DIAGONAL(5, 7), "For 8 rows and 6 columns"),
    ],
)
def test_an_order_without_one_mask_is_refused_for_what_it_is(capsys, answer, words):
    said = verdict(capsys, exercises.check_an_order, answer)
    assert said.startswith("✗") and words in said, said


@pytest.mark.parametrize("answer", [..., None, lambda height, width: ..., lambda height, width: None])
def test_no_order_is_not_solved_yet(capsys, answer):
    assert verdict(capsys, exercises.check_an_order, answer).startswith("✎ Not solved yet")
