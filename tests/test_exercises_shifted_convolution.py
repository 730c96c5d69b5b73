"""Typical answers to the exercises of notebook 09: each wrong one is named for what it is."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from pixelhelpers.exercises import check_seen_offsets, check_starting_bound, check_without_mask
from pixelhelpers.layers import raster_mask


def verdict(capsys, check, answer) -> str:
    check(answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("check", [check_without_mask, check_starting_bound])
@pytest.mark.parametrize("stub", [None, ..., lambda *arguments: None, lambda *arguments: ...])
def test_unsolved_stub_gets_a_friendly_line(capsys, check, stub):
    assert verdict(capsys, check, stub).startswith("✎ Not solved yet")


def own(mask_type):
    return int(mask_type == "B")


def above(x, w, lower=0):
    half = w.shape[-1] // 2
    return F.conv2d(F.pad(x, (half, half, half + lower, -1 - lower)), w[:, :, :half])


def beside(x, w, taps, further=0):
    half = w.shape[-1] // 2
    return F.conv2d(F.pad(x, (half + further, taps - 1 - further, 0, 0)), w[:, :, half : half + 1, : half + taps])


def centred(x, w, mask=1):
    return F.conv2d(x, w * mask, padding=w.shape[-1] // 2)


def whole_own_row(x, w):
    half = w.shape[-1] // 2
    return F.conv2d(F.pad(x, (half, half, half, 0)), w[:, :, : half + 1])


def mask_of(w, kind):
    return raster_mask(kind, 1, 1, w.shape[-1])


def two_stages(x, w, kind):
    """Images moved first, then padded kernels: as the package does it."""
    half = w.shape[-1] // 2
    down = F.pad(F.pad(x, (0, 0, 1, -1)), (half, half, half - 1, 0))
    right = x if kind == "B" else F.pad(x, (1, -1))
    taps = half + own(kind)
    return F.conv2d(down, w[:, :, :half]) + F.conv2d(F.pad(right, (taps - 1, 0)), w[:, :, [half], :taps])


def both(x, w, kind):
    return above(x, w) + beside(x, w, own(kind))


def unfolded(x, w, kind):
    """The live taps as a matrix, pixels as columns."""
    size = w.shape[-1]
    alive = size**2 // 2 + own(kind)
    columns = F.unfold(x, size, padding=size // 2).unflatten(1, (x.shape[1], -1))[:, :, :alive]
    return torch.einsum("nitp,oit->nop", columns, w.flatten(2)[..., :alive]).unflatten(2, x.shape[2:])


def cut_off(x, w, kind):
    """Padded generously, and too long a result cut off."""
    half, taps = w.shape[-1] // 2, w.shape[-1] // 2 + own(kind)
    rows = F.conv2d(F.pad(x, (half, half, half, 0)), w[:, :, :half])[:, :, : x.shape[2]]
    return rows + F.conv2d(F.pad(x, (half, 0)), w[:, :, [half], :taps])[..., : x.shape[3]]


def zeroed(x, w, kind):
    half = w.shape[-1] // 2
    w[:, :, half + 1 :] = 0
    w[:, :, half, half + own(kind) :] = 0
    return centred(x, w)


def by_taps_of_all(x, w, kind):
    """Products that no counter sees, with a mask."""
    size, (height, width) = w.shape[-1], x.shape[2:]
    padded, w = F.pad(x, [size // 2] * 4), w * mask_of(w, kind)
    taps = [(row, column) for row in range(size) for column in range(size)]
    moved = (padded[:, None, :, row : row + height, column : column + width] for row, column in taps)
    return sum(
        (part * w[:, :, row, column, None, None]).sum(2) for part, (row, column) in zip(moved, taps, strict=True)
    )


@pytest.mark.parametrize(
    "answer", [both, two_stages, unfolded, cut_off, lambda x, w, kind: both(x.double(), w.double(), kind)]
)
def test_without_mask_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_without_mask, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x, w, kind: centred(x, w), "those of the future too"),
        (lambda x, w, kind: centred(x, w, mask_of(w, kind)), "9 taps are multiplied, and 4 are alive"),
        (zeroed, "9 taps are multiplied, and 4 are alive"),
        (lambda x, w, kind: zeroed(x, w.clone(), kind), "9 taps are multiplied, and 4 are alive"),
        (lambda x, w, kind: centred(x, torch.where(mask_of(w, kind), w, 0)), "9 taps are multiplied, and 4 are alive"),
        (lambda x, w, kind: centred(x, w) - centred(x, w, ~mask_of(w, kind)), "18 taps are multiplied"),
        (by_taps_of_all, "still multiplied"),
        (lambda x, w, kind: 2 * both(x, w, kind), "counts twice"),
        (lambda x, w, kind: both(x.mT, w.mT, kind).mT, "order of columns"),
        (lambda x, w, kind: centred(x, w, ~mask_of(w, kind)), "weights of the future, below"),
        (lambda x, w, kind: both(x, w.detach(), kind), "no gradient comes back to `weight`"),
        (lambda x, w, kind: both(x.detach(), w, kind), "no gradient comes back to `x`"),
        (lambda x, w, kind: above(x, w), "own row is missing"),
        (lambda x, w, kind: beside(x, w, own(kind)), "rows above are missing"),
        (lambda x, w, kind: above(x, w) + beside(x, w, 1), "seen in type A"),
        (lambda x, w, kind: above(x, w) + beside(x, w, 0), "missing in type B"),
        (lambda x, w, kind: above(x, w) + beside(x, w, own(kind), 1), "too far to the left"),
        (lambda x, w, kind: above(x, w) + beside(x, w, own(kind), -1), "too far to the right"),
        (lambda x, w, kind: above(x, w, -1) + beside(x, w, own(kind)), "were not moved down"),
        (lambda x, w, kind: above(x, w, 1) + beside(x, w, own(kind)), "moved down twice"),
        (lambda x, w, kind: whole_own_row(x, w), "open on the right, too"),
        (lambda x, w, kind: centred(x, w.flip(2, 3), mask_of(w, kind)), "flipped"),
        (lambda x, w, kind: centred(x, w, mask_of(w, kind).flip(2, 3)), "weights of the future, below"),
        (
            lambda x, w, kind: centred(x, w, mask_of(w, kind) & (torch.arange(w.shape[-1]) <= w.shape[-1] // 2)),
            "in full width",
        ),
        (lambda x, w, kind: above(x, w)[:, :, 1:], "as many rows and columns as came in"),
        (lambda x, w, kind: (above(x, w), beside(x, w, own(kind))), "you return tuple"),
        (lambda x, w, kind: above(x, w) - beside(x, w, own(kind)), "single bright pixel"),
        (lambda x, w, kind: F.conv2d(x, w[0]), "raised RuntimeError"),
    ],
)
def test_without_mask_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_without_mask, answer)
    assert said.startswith("✗") and words in said


@pytest.mark.parametrize(
    "answer",
    [
        lambda mask: mask.sum((1, 2, 3)).clamp(min=1).rsqrt(),
        lambda mask: torch.nan_to_num(mask.sum((1, 2, 3)).rsqrt(), posinf=0),
        lambda mask: mask.double().flatten(1).sum(1).clamp(min=1) ** -0.5,
        lambda mask: torch.stack([1 / max(int(m.sum()), 1) ** 0.5 * torch.ones(()) for m in mask]),
    ],
)
def test_starting_bound_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_starting_bound, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda mask: torch.full((len(mask),), mask[0].numel()).rsqrt(), "Dead taps are counted: 49 in place of 24"),
        (lambda mask: mask.float().mean((1, 2, 3)).rsqrt(), "share of live taps"),
        (lambda mask: 1 / mask.sum((1, 2, 3)).clamp(min=1), "square root is missing"),
        (lambda mask: mask.sum((1, 2, 3)).sqrt(), "the more inputs"),
        (lambda mask: mask.sum((1, 2, 3)), "number of live taps"),
        (lambda mask: mask.sum((1, 2, 3)).rsqrt(), "no finite number"),
        (lambda mask: mask[:, 0].sum((1, 2)).clamp(min=1).rsqrt(), "Only one input feature"),
        (
            lambda mask: torch.ones(len(mask)) * mask.sum((1, 2, 3)).double().mean().clamp(min=1).rsqrt(),
            "All outputs get the same bound",
        ),
        (lambda mask: torch.ones(len(mask)) * mask[0].sum().clamp(min=1).rsqrt(), "All outputs get the same bound"),
        (lambda mask: torch.ones(len(mask)) * mask[-1].sum().rsqrt(), "All outputs get the same bound"),
        (lambda mask: torch.ones(len(mask)) * mask.sum((1, 2, 3)).max().rsqrt(), "All outputs get the same bound"),
        (lambda mask: torch.nan_to_num(mask.sum((1, 2, 3)).rsqrt()), "no weight should start there"),
        (lambda mask: (mask.sum((1, 2, 3)) + 1e-12).rsqrt(), "no weight should start there"),
        (lambda mask: (~mask).sum((1, 2, 3)).clamp(min=1).rsqrt(), "1 / √ of that number"),
        (lambda mask: torch.ones(len(mask)) * mask.sum().rsqrt(), "of all outputs are added up"),
        (lambda mask: mask.sum().rsqrt(), "one bound per output"),
        (lambda mask: 0.2, "you return float"),
        (lambda mask: 2 * mask.sum((1, 2, 3)).clamp(min=1).rsqrt(), "1 / √ of that number"),
        (lambda mask: mask.no_such, "raised AttributeError"),
    ],
)
def test_starting_bound_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_starting_bound, answer)
    assert said.startswith("✗") and words in said


def by_gradient(layer, side=21, chosen=lambda gradient: gradient != 0):
    x = torch.zeros(1, 1, side, side, requires_grad=True)
    layer(x)[0, 0, side // 2, side // 2].backward()
    return {(row - side // 2, column - side // 2) for row, column in chosen(x.grad[0, 0]).nonzero().tolist()}


def by_impulse(layer, side=21, sign=-1, bias=True):
    x = torch.zeros(1, 1, side, side)
    nothing = layer(x) if bias else 0
    x[0, 0, side // 2, side // 2] = 1
    moved = ((layer(x) - nothing)[0, 0] != 0).nonzero() - side // 2
    return (sign * moved).tolist()


def one_by_one(layer, side=17):
    x = torch.eye(side * side).view(-1, 1, side, side)
    moved = (layer(x) - layer(torch.zeros(1, 1, side, side)))[:, 0, side // 2, side // 2].nonzero()[:, 0]
    return [(int(k) // side - side // 2, int(k) % side - side // 2) for k in moved]


def of_each(change):
    return lambda layer: {change(*place) for place in by_gradient(layer)}


def only(keep):
    return lambda layer: {place for place in by_gradient(layer) if keep(*place)}


def bounding_box(layer):
    places = by_gradient(layer)
    if not places:
        return places
    rows, columns = (range(min(side), max(side) + 1) for side in zip(*places, strict=True))
    return set(itertools.product(rows, columns))


@pytest.mark.parametrize(
    "answer",
    [
        by_gradient,
        by_impulse,
        one_by_one,
        lambda layer: torch.tensor(one_by_one(layer)),
        lambda layer: iter(one_by_one(layer)),
    ],
)
def test_seen_offsets_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_seen_offsets, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda layer: by_impulse(layer, sign=1), "where an input *acts*"),
        (lambda layer: by_impulse(layer, bias=False), "bias answers everywhere"),
        (of_each(lambda down, right: (right, down)), "down and right have changed places"),
        (of_each(lambda down, right: (down, -right)), "left and right have changed places"),
        (of_each(lambda down, right: (abs(down), abs(right))), "signs are lost"),
        (of_each(lambda down, right: (down + 10, right + 10)), "not from the image's corner"),
        (of_each(lambda down, right: (down + 1, right)), "off by one row"),
        (of_each(lambda down, right: (down + 1, right + 1)), "off by one"),
        (of_each(lambda down, right: (down, 0)), "Change one pixel of the image"),
        (lambda layer: by_gradient(layer, chosen=lambda gradient: gradient > 0), "only positive weights"),
        (lambda layer: by_gradient(layer, chosen=lambda gradient: gradient < 0), "only negative weights"),
        (lambda layer: by_gradient(layer, chosen=lambda gradient: gradient > 0.3), "places are missing"),
        (lambda layer: by_gradient(layer) | {(0, 0)}, "need not see its own place"),
        (lambda layer: by_gradient(layer) - {(0, 0)}, "may be among those that it sees"),
        (only(lambda down, right: (down, right) <= (0, 0)), "need not be causal"),
        (only(lambda down, right: down < 0), "only the rows above"),
        (only(lambda down, right: max(abs(down), abs(right)) < 2), "only the nearest places"),
        (lambda layer: by_gradient(layer, 5), "2 of 3 places are missing"),
        (bounding_box, "bounding box"),
        (lambda layer: itertools.product((-1, 0, 1), repeat=2), "the same as for any other layer"),
        (lambda layer: set(), "the same as for any other layer"),
        (lambda layer: len(by_gradient(layer)), "return pairs"),
        (lambda layer: torch.ones(3, 3), "return pairs"),
        (lambda layer: layer / 2, "raised TypeError"),
    ],
)
def test_seen_offsets_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_seen_offsets, answer)
    assert said.startswith("✗") and words in said
