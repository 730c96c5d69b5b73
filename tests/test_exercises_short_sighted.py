"""Typical answers to the exercises of notebook 06: each wrong one is named for what it is."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pixelhelpers import GatedPixelCNN, MaskedConv2d, PixelCNN
from pixelhelpers.exercises import check_holes, check_missed, check_no_hole
from pixelhelpers.exercises.short_sighted import _missed, _region


def verdict(capsys, check, answer) -> str:
    check(answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("check", [check_missed, check_holes])
@pytest.mark.parametrize("stub", [None, ..., lambda *arguments: None, lambda *arguments: ...])
def test_unsolved_stub_gets_a_friendly_line(capsys, check, stub):
    assert verdict(capsys, check, stub).startswith("✎ Not solved yet")


# -- missed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernels", [[3] * 7, [7, 3, 3, 3, 3, 3], [3, 7], [5, 3, 9], [7], [5] * 4, [3, 3, 9, 5]])
def test_the_reference_equals_a_walk_over_taps(kernels):
    reach = sum(kernel // 2 for kernel in kernels)
    seen = {(0, 0)}
    for kernel in kernels:
        half = range(-(kernel // 2), kernel // 2 + 1)
        taps = [(down, right) for down in half for right in half if (down, right) <= (0, 0)]
        seen = {(row + down, column + right) for row, column in seen for down, right in taps}
    above = set(itertools.product(range(-reach, 0), range(-reach, reach + 1)))
    assert len(above - seen) == _missed(kernels)


def solution(kernels):
    halves = sorted((kernel // 2 for kernel in kernels), reverse=True)
    reach = sum(halves)
    return sum(reach - sum(halves[:up]) for up in range(1, reach))


def by_walking(kernels):
    reach = sum(kernel // 2 for kernel in kernels)
    at = (reach, reach)
    seen = {at}
    for kernel in kernels:
        half = range(-(kernel // 2), kernel // 2 + 1)
        seen = {(r + a, c + b) for r, c in seen for a in half for b in half if (a, b) <= (0, 0)}
    return sum((r, c) not in seen for r in range(reach) for c in range(2 * reach + 1))


def in_place(kernels):
    kernels.sort(reverse=True)
    return solution(kernels)


@pytest.mark.parametrize(
    "answer", [solution, by_walking, in_place, lambda k: torch.tensor(solution(k)), lambda k: float(solution(k))]
)
def test_missed_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_missed, answer).startswith("✓")


def in_turn(kernels):
    halves = [kernel // 2 for kernel in kernels]
    reach = sum(halves)
    return sum(reach - sum(halves[:up]) for up in range(1, reach + 1))


def reach(kernels):
    return sum(kernel // 2 for kernel in kernels)


def above(kernels):
    return reach(kernels) * (2 * reach(kernels) + 1)


def half_the_sum(kernels):
    halves, far = sorted((kernel // 2 for kernel in kernels), reverse=True), sum(kernels) // 2
    return sum(far - sum(halves[:up]) for up in range(1, far + 1))


def one_layer_more(kernels):
    halves = sorted((kernel // 2 for kernel in kernels), reverse=True)
    return sum(sum(halves) - sum(halves[: up + 1]) for up in range(1, sum(halves) + 1))


@pytest.mark.parametrize("answer", [lambda k: solution(k) + 1, lambda k: 22, lambda k: solution(k) / 2])
def test_missed_never_says_the_answer(capsys, answer):
    assert "21" not in verdict(capsys, check_missed, answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda k: 2 * solution(k), "on the right only"),
        (lambda k: above(k) - solution(k), "what is seen of the rows above"),
        (above, "all that lies within reach"),
        (lambda k: reach(k) * (reach(k) - 1) // 2, "as if all kernels were 3 x 3"),
        (lambda k: reach(k) * (reach(k) + 1) // 2, "right above the pixel"),
        (lambda k: len(k) * (len(k) - 1) // 2, "you count layers"),
        (in_turn, "the widest step may come first"),
        (lambda k: k[0] // 2 * len(k) * (len(k) - 1) // 2, "for kernels of one size"),
        (lambda k: k[-1] // 2 * len(k) * (len(k) - 1) // 2, "for kernels of one size"),
        (lambda k: max(k) // 2 * len(k) * (len(k) - 1) // 2, "for kernels of one size"),
        (lambda k: reach(k) / len(k) * len(k) * (len(k) - 1) / 2, "for kernels of one size"),
        (lambda k: in_turn(sorted(k)), "the narrowest steps first"),
        (half_the_sum, "you halve the sum"),
        (lambda k: solution(k) / above(k), "their share"),
        (lambda k: solution(k) + 1, "off by one"),
        (lambda k: solution(k) - 1, "off by one"),
        (lambda k: -solution(k), "no number of pixels is negative"),
        (lambda k: solution(k) + reach(k), "to go up by r rows takes r layers, not r - 1"),
        (one_layer_more, "you use one more"),
        (lambda k: solution([2 * side for side in k]), "you take whole sides"),
        (lambda k: solution([side + 1 for side in k]), "you round half a side up"),
        (lambda k: reach(k), "how far the stack reaches"),
        (len, "how many layers"),
        (lambda k: reach(k) ** 2, "Draw what is seen one row up"),
        (lambda k: solution(k) / 2, "Draw what is seen one row up"),
        (lambda k: 22, "as for any other list"),
        (lambda k: 21, "as for any other list"),
        (lambda k: 99, "as for any other list"),
        (lambda k: "21", "return a number"),
        (lambda k: True, "return a number"),
        (lambda k: k[99], "raised IndexError"),
    ],
)
def test_missed_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_missed, answer)
    assert said.startswith("✗") and words in said


# -- holes ----------------------------------------------------------------------------------------


def earlier_than(seen, at):
    return torch.arange(seen.numel()).view(seen.shape) < at[0] * seen.shape[1] + at[1]


def window(seen, at, grow=0, symmetric=True, up=0, aside=0):
    place = torch.tensor([at])
    rows, columns = torch.cat([seen.nonzero(), place]).T
    top, reach = rows.min() - grow - up, (columns - at[1]).abs().max() + grow + aside
    left, right = (at[1] - reach, at[1] + reach) if symmetric else (columns.min(), columns.max())
    inside = torch.zeros_like(seen)
    inside[max(0, top) : at[0] + 1, max(0, left) : right + 1] = True
    return inside


def holes(seen, at):
    return window(seen, at) & earlier_than(seen, at) & ~seen


def within(up_and_aside):
    """Holes in a window that is measured in another way: rows up and columns to either side."""

    def answer(seen, at):
        rows, columns = torch.cat([seen.nonzero(), torch.tensor([at])]).T
        up, aside = up_and_aside(at[0] - rows, columns - at[1])
        inside = torch.zeros_like(seen)
        inside[max(0, at[0] - int(up)) : at[0] + 1, max(0, at[1] - int(aside)) : at[1] + int(aside) + 1] = True
        return inside & earlier_than(seen, at) & ~seen

    return answer


def square(up, right):
    side = max(up.max(), right.abs().max())
    return side, side


def right_of(seen, at):
    result = torch.zeros_like(seen)
    result[at[0], at[1] + 1 :] = True
    return result


def by_loops(seen, at):
    result = torch.zeros_like(seen)
    pixels = [tuple(pixel) for pixel in seen.nonzero().tolist()] or [at]
    far = max(abs(column - at[1]) for _, column in pixels)
    for row in range(min(row for row, _ in pixels), at[0] + 1):
        for column in range(seen.shape[1]):
            if abs(column - at[1]) <= far and (row, column) < at and not seen[row, column]:
                result[row, column] = True
    return result


@pytest.mark.parametrize("answer", [holes, by_loops])
def test_holes_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_holes, answer).startswith("✓")


def overwriting(seen, at):
    seen[at] = True
    result = holes(seen, at)
    seen.fill_(True)
    return result


def test_an_answer_may_write_on_what_it_is_given(capsys):
    assert verdict(capsys, check_holes, overwriting).startswith("✓")


def without_empty(seen, at):
    seen.nonzero()[:, 0].min()
    return holes(seen, at)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda seen, at: ~seen, "itself is among your holes"),
        (lambda seen, at: window(seen, at) & ~seen, "itself is among your holes"),
        (lambda seen, at: seen, "are seen"),
        (lambda seen, at: window(seen, at) & earlier_than(seen, at), "are seen"),
        (lambda seen, at: holes(seen, at) | right_of(seen, at), "come later"),
        (lambda seen, at: earlier_than(seen, at) & ~seen, "more layers would reach"),
        (lambda seen, at: holes(seen, at) & (torch.arange(12) < at[0])[:, None], "own row are missing"),
        (lambda seen, at: window(seen, at, symmetric=False) & earlier_than(seen, at) & ~seen, "rightmost pixel"),
        (lambda seen, at: window(seen, at, grow=1) & earlier_than(seen, at) & ~seen, "beyond the window"),
        (lambda seen, at: holes(seen, at[::-1]), "row and column are swapped"),
        (lambda seen, at: window(seen, at, up=-1) & earlier_than(seen, at) & ~seen, "one row too early"),
        (lambda seen, at: window(seen, at, aside=-1) & earlier_than(seen, at) & ~seen, "one column too early"),
        (lambda seen, at: window(seen, at, up=1) & earlier_than(seen, at) & ~seen, "beyond the window"),
        (lambda seen, at: window(seen, at, aside=1) & earlier_than(seen, at) & ~seen, "beyond the window"),
        (within(square), "your window is square"),
        (within(lambda up, right: (up.max(), (-right).max())), "Measure on both sides"),
        (within(lambda up, right: (up.max(), right.max())), "rightmost pixel"),
        (lambda seen, at: torch.zeros_like(seen), "you mark 0 of"),
        (lambda seen, at: holes(seen, at).float(), "a tensor of bool"),
        (lambda seen, at: int(holes(seen, at).sum()), "returned int"),
        (lambda seen, at: holes(seen, at)[1:], "a tensor of bool"),
        (without_empty, "the first pixel, which sees nothing"),
        (lambda seen, at: seen[99], "raised IndexError"),
    ],
)
def test_holes_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_holes, answer)
    assert said.startswith("✗") and words in said


def test_the_regions_are_what_layers_see():
    from torch import nn

    from pixelhelpers import MaskedConv2d, receptive_field

    layers = nn.Sequential(*(MaskedConv2d(kind, 1, 1, 3) for kind in "ABBB"))
    assert torch.equal(_region("ABBB", (6, 1), (12, 15)), receptive_field(layers, (6, 1), (1, 12, 15)))


# -- a network without a hole ----------------------------------------------------------------------


class TwoWalks(nn.Module):
    """One layer for the rows above, one for the pixels to the left, both without a mask."""

    def __init__(self, columns=11, rows_down=1, beside=True):
        super().__init__()
        self.rows_down, self.beside_too = rows_down, beside
        self.above, self.beside = nn.Conv2d(1, 4, (5, columns), bias=False), nn.Conv2d(1, 4, (1, 5), bias=False)

    def forward(self, x):
        aside = self.above.kernel_size[1] // 2
        above = self.above(F.pad(x, (aside, aside, 4 + self.rows_down, -self.rows_down)))
        return above + self.beside(F.pad(x, (5, -1))) if self.beside_too else above


class MeanOfAllBefore(nn.Module):
    def __init__(self, diagonal=-1):
        super().__init__()
        self.diagonal, self.mix = diagonal, nn.Linear(1, 4)

    def forward(self, x):
        pixels = x.flatten(2).mT / 255
        weights = torch.ones(pixels.shape[1], pixels.shape[1], dtype=x.dtype).tril(self.diagonal)
        weights = weights / weights.sum(1, keepdim=True).clamp(min=1)
        return self.mix(weights @ pixels).mT.unflatten(2, x.shape[2:])


def stack(*sides):
    first, *others = sides
    return nn.Sequential(MaskedConv2d("A", 1, 4, first), *(MaskedConv2d("B", 4, 4, side) for side in others))


@pytest.mark.parametrize(
    "network",
    [
        MaskedConv2d("A", 1, 4, 13),
        nn.Sequential(MaskedConv2d("A", 1, 8, 11), nn.ReLU(), nn.Conv2d(8, 8, 1)),
        TwoWalks(),
        MeanOfAllBefore(),
        lambda x: (x.flatten(2).cumsum(2) - x.flatten(2)).view_as(x) / 255,
        GatedPixelCNN(hidden=4, blocks=5),
    ],
)
def test_no_hole_accepts_what_is_right(capsys, network):
    assert verdict(capsys, check_no_hole, network).startswith("✓")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (stack(3, *[3] * 6), "misses 21 of the pixels within its window"),
        (stack(7, *[3] * 5), "of the pixels within its window"),
        (stack(7, 7), "of the pixels within its window"),
        (PixelCNN(hidden=4, blocks=5), "of the pixels within its window"),
        (TwoWalks(beside=False), "misses 5 of the pixels within its window"),
        (MaskedConv2d("A", 1, 4, 9), "looks 4 rows up, 4 columns to the left and 4 to the right"),
        (TwoWalks(columns=3), "5 columns to the left and 1 to the right"),
        (MaskedConv2d("B", 1, 4, 11), "not causal"),
        (nn.Conv2d(1, 4, 11, padding=5), "not causal"),
        (TwoWalks(rows_down=0), "not causal"),
        (MeanOfAllBefore(diagonal=0), "not causal"),
        (lambda x: x.roll(1, 3), "not causal"),
        (lambda x: MaskedConv2d("A", 1, 4, 11).to(x)(x.mT).mT, "not causal"),
        (nn.Sequential(MaskedConv2d("A", 1, 4, 11), nn.InstanceNorm2d(4)), "not causal"),
        (lambda x: 0 * x, "a dead head"),
        (nn.Conv2d(1, 4, 11), "features for each pixel"),
        (nn.Flatten(), "features for each pixel"),
        ("network", "You give a str"),
    ],
)
def test_no_hole_names_the_mistake(capsys, network, words):
    said = verdict(capsys, check_no_hole, network)
    assert said.startswith("✗") and words in said


@pytest.mark.parametrize("stub", [None, ...])
def test_an_empty_network_gets_a_friendly_line(capsys, stub):
    assert verdict(capsys, check_no_hole, stub).startswith("✎ Not solved yet")
