"""Typical answers to the exercises of notebook 12: each wrong one is named for what it is."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from pixelhelpers import MultiscalePixelCNN
from pixelhelpers.exercises import check_own_order, check_price, check_ranks


def verdict(capsys, check, answer) -> str:
    check(answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("check", [check_ranks, check_price])
@pytest.mark.parametrize("stub", [None, ..., lambda *arguments: None, lambda *arguments: ...])
def test_unsolved_stub_gets_a_friendly_line(capsys, check, stub):
    assert verdict(capsys, check, stub).startswith("✎ Not solved yet")


def of_the_package(height, width, doublings):
    model = MultiscalePixelCNN(levels=2, hidden=4, blocks=1, doublings=doublings)
    return model.order((height, width))[0]


def from_coarse_to_fine(height, width, doublings, places=((0, 1), (1, 0), (1, 1)), first=0, share=False, again=False):
    step = 2**doublings
    rank = torch.zeros(height, width, dtype=torch.long)
    base = rank[::step, ::step]
    base[:] = torch.arange(base.numel()).view(base.shape) + first
    begin = turn = int(rank.max()) + 1
    while step > 1:
        half = step // 2
        turn = begin if again else turn
        for row, column in places:
            rank[row * half :: step, column * half :: step] = turn
            turn += not share
        turn += share
        step = half
    return rank


def from_fine_to_coarse(height, width, doublings):
    rank = of_the_package(height, width, doublings)
    turn = height * width // 4**doublings
    for step in [2 ** (k + 1) for k in range(doublings)]:
        for row, column in ((0, 1), (1, 0), (1, 1)):
            rank[row * step // 2 :: step, column * step // 2 :: step] = turn
            turn += 1
    return rank


def one_by_one(height, width, doublings):
    pixels = of_the_package(height, width, doublings).flatten().argsort(stable=True)
    rank = torch.empty(height * width, dtype=torch.long)
    rank[pixels] = torch.arange(height * width)
    return rank.view(height, width)


def column_by_column(height, width, doublings):
    rank, step = of_the_package(height, width, doublings), 2**doublings
    rows, columns = height // step, width // step
    rank[::step, ::step] = torch.arange(rows * columns).view(columns, rows).T
    return rank


def small_image_at_once(height, width, doublings):
    last = height * width // 4**doublings - 1
    return (of_the_package(height, width, doublings) - last).clamp(min=0)


def one_too_small(height, width, doublings):
    rank = of_the_package(height, width, doublings)
    return rank - (rank >= height * width // 4**doublings).long()


def with_half_steps(height, width, doublings):
    step = 2**doublings
    rank = torch.zeros(height, width, dtype=torch.long)
    base = rank[::step, ::step]
    base[:] = torch.arange(base.numel()).view(base.shape)
    turn = base.numel()
    while step > 1:
        half = step // 2
        for row, column in ((0, 1), (1, 0), (1, 1)):
            rank[row * half :: half, column * half :: half] = turn
            turn += 1
        step = half
    return rank


def in_the_corner(height, width, doublings):
    rows, columns = height >> doublings, width >> doublings
    rank = torch.zeros(height, width, dtype=torch.long)
    rank[:rows, :columns] = torch.arange(rows * columns).view(rows, columns)
    turn = rows * columns
    while rows < height:
        rank[:rows, columns : 2 * columns] = turn
        rank[rows : 2 * rows, :columns] = turn + 1
        rank[rows : 2 * rows, columns : 2 * columns] = turn + 2
        rows, columns, turn = 2 * rows, 2 * columns, turn + 3
    return rank


def by_doubling(height, width, doublings):
    """The smaller order, and three groups around each of its pixels."""
    if not doublings:
        return torch.arange(height * width).view(height, width)
    small = by_doubling(height // 2, width // 2, doublings - 1)
    last = int(small.max())
    planes = [small, *(torch.full_like(small, last + number) for number in (1, 2, 3))]
    return F.pixel_shuffle(torch.stack(planes)[None].float(), 2)[0, 0].long()


def by_place(height, width, doublings):
    """Each pixel by itself, from how often 2 divides its row and its column."""
    rank = torch.zeros(height, width, dtype=torch.long)
    side = 2**doublings
    small = (height // side) * (width // side)
    for row, column in itertools.product(range(height), range(width)):
        halved = next((k for k in range(doublings) if (row >> k | column >> k) & 1), None)
        if halved is None:
            rank[row, column] = row // side * (width // side) + column // side
        else:
            group = 2 * (row >> halved & 1) + (column >> halved & 1) - 1
            rank[row, column] = small + 3 * (doublings - 1 - halved) + group
    return rank


def from_zero_again(height, width, doublings):
    rank = from_coarse_to_fine(height, width, doublings)
    small = (height >> doublings) * (width >> doublings)
    return torch.where(rank < small, rank, rank - small)


@pytest.mark.parametrize("answer", [of_the_package, from_coarse_to_fine, by_doubling, by_place])
def test_ranks_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_ranks, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda h, w, doublings: torch.arange(h * w).view(h, w), "raster order, a turn for every pixel"),
        (lambda *sizes: from_coarse_to_fine(*sizes, first=1), "count from 1"),
        (one_by_one, "in one turn"),
        (
            lambda *sizes: from_coarse_to_fine(*sizes, ((1, 0), (0, 1), (1, 1))),
            "Your groups are lower left, upper right",
        ),
        (lambda *sizes: from_coarse_to_fine(*sizes, ((1, 1), (0, 1), (1, 0))), "Your groups are lower right, upper"),
        (one_too_small, "shares the rank of the last pixel"),
        (with_half_steps, "steps of `half`"),
        (lambda *sizes: from_coarse_to_fine(*sizes, share=True), "share a turn"),
        (lambda *sizes: from_coarse_to_fine(*sizes, again=True), "begins with the same rank"),
        (from_fine_to_coarse, "finest pixels come first"),
        (small_image_at_once, "it goes pixel by pixel"),
        (column_by_column, "column by column"),
        (in_the_corner, "upper left corner"),
        (lambda h, w, doublings: of_the_package(28, 28, 2), "return a tensor (8, 12)"),
        (lambda h, w, doublings: from_coarse_to_fine(h, w, doublings)[None], "you return (1, 28, 28)"),
        (
            lambda *sizes: from_coarse_to_fine(*sizes, ((0, 1), (1, 0))),
            "in row 0, column 1 should have rank 52, you give it 51",
        ),
        (lambda h, w, doublings: from_coarse_to_fine(h, w, doublings).clamp(max=53), "row 1, column 1 should have"),
        (lambda h, w, doublings: from_coarse_to_fine(h, w, doublings - 1), "One doubling too few"),
        (lambda h, w, doublings: from_coarse_to_fine(h, w, doublings).flip(1), "should have the ranks 0 to 48"),
        (lambda *sizes: from_coarse_to_fine(*sizes).float(), "int64 is asked for"),
        (lambda *sizes: from_coarse_to_fine(*sizes).double(), "int64 is asked for"),
        (lambda *sizes: from_coarse_to_fine(*sizes).int(), "int64 is asked for"),
        (lambda h, w, doublings: from_coarse_to_fine(w, h, doublings).T, "Height and width are swapped"),
        (lambda *sizes: from_coarse_to_fine(*sizes).max() - from_coarse_to_fine(*sizes), "backwards"),
        (from_zero_again, "count from 0 again"),
        (lambda h, w, doublings: [[0] * w] * h, "you return list"),
        (lambda h, w, doublings: torch.zeros(h)[h], "raised IndexError"),
    ],
)
def test_ranks_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_ranks, answer)
    assert said.startswith("✗") and words in said


def entropy(p):
    p = p[p > 0]
    return -(p * p.log2()).sum()


def price(joint):
    apart = joint.sum(1, keepdim=True) * joint.sum(0)
    some = joint > 0
    return (joint[some] * (joint[some] / apart[some]).log2()).sum()


@pytest.mark.parametrize(
    "answer",
    [
        price,
        lambda joint: float(price(joint)),
        lambda joint: entropy(joint.sum(0)) + entropy(joint.sum(1)) - entropy(joint),
        lambda joint: price(joint.T),
    ],
)
def test_price_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_price, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda joint: price(joint) * torch.tensor(2.0).log(), "in nats"),
        (lambda joint: -price(joint), "sign"),
        (lambda joint: price(joint) / 2, "price of one pixel"),
        (entropy, "what the true model pays"),
        (lambda joint: entropy(joint.sum(0)) + entropy(joint.sum(1)), "all that the independent model pays"),
        (lambda joint: entropy(joint) - entropy(joint.sum(1)), "second pixel costs when the first is known"),
        (lambda joint: entropy(joint) - entropy(joint.sum(0)), "first pixel costs when the second is known"),
        (
            lambda joint: (joint * (joint / joint.sum(1, keepdim=True) / joint.sum(0)).log2()).sum(),
            "0 · log 0 became NaN",
        ),
        (
            lambda joint: ((apart := joint.sum(1, keepdim=True) * joint.sum(0)) * (apart / joint).log2()).sum(),
            "that the independent model draws",
        ),
        (lambda joint: torch.tensor(joint.numel()).log2() - entropy(joint), "equally likely"),
        (lambda joint: (joint / joint.sum(1, keepdim=True) / joint.sum(0)).log2().mean(), "All pairs count alike"),
        (lambda joint: price(joint) / entropy(joint), "gives a share"),
        (lambda joint: price(joint) / entropy(joint.sum(0)), "gives a share"),
        (lambda joint: price(joint) / joint.numel(), "divided by the number of pairs"),
        (lambda joint: price(joint) / (joint > 0).sum(), "divided by the number of pairs"),
        (lambda joint: joint * joint, "return one number"),
        (lambda joint: "much", "you return str"),
        (lambda joint: 2 * price(joint), "you return"),
        (lambda joint: joint.no_such, "raised AttributeError"),
    ],
)
def test_price_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_price, answer)
    assert said.startswith("✗") and words in said


def test_price_does_not_take_the_infinite_for_a_price(capsys):
    """Right for tables without zeros, infinite with them."""

    def careless(joint):
        return price(joint) if (joint > 0).all() else torch.tensor(float("inf"))

    assert "became infinite" in verdict(capsys, check_price, careless)


# Another order


def greedy(height, width, start=None):
    """In each turn all that may be drawn, in raster order."""
    turn, order = 0, torch.full((height, width), -1)
    order[start or (height // 2, width // 2)] = 0
    while (order < 0).any():
        turn += 1
        for row, column in (order < 0).nonzero().tolist():
            around = order[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            if ((around >= 0) & (around < turn)).any() and not (around == turn).any():
                order[row, column] = turn
    return order


def numbered(order):
    return order.unique(return_inverse=True)[1].view(order.shape)


def rings(height, width, phase=lambda row, column: 2 * (row % 2) + column % 2):
    """Rings around the middle, each in up to four turns."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    ring = torch.maximum((rows - height // 2).abs(), (columns - width // 2).abs())
    return numbered(torch.where(ring > 0, 4 * ring + phase(rows, columns), 0))


def raster(height, width):
    return torch.arange(height * width).view(height, width)


def front(height, width, slope=2):
    return numbered(slope * torch.arange(height)[:, None] + torch.arange(width))


def with_another_first(height, width):
    order = greedy(height, width)
    order[0, 0] = 0
    return order


@pytest.mark.parametrize(
    "answer",
    [
        greedy,
        lambda height, width: greedy(height, width, (height // 2 - 1, width // 2)),
        lambda height, width: greedy(width, height).T.flip(0),
        rings,
    ],
)
def test_own_order_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_own_order, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (raster, "in 784 turns"),
        (front, "in 82 turns"),
        (lambda *sides: front(*sides, 3), "in 109 turns"),
        (lambda *sides: greedy(*sides, (0, 0)), "turns. The multiscale model takes 55"),
        (lambda *sides: front(*sides, 1), "(0, 1) is drawn together with one right beside it"),
        (lambda *sides: rings(*sides, lambda row, column: 0), "drawn together with one right beside it"),
        (lambda *sides: greedy(*sides).clamp(max=20), "drawn together with one right beside it"),
        (lambda h, w: 2 * (torch.arange(h)[:, None] % 2) + torch.arange(w) % 2, "196 pixels are drawn in turn 0"),
        (lambda h, w: torch.arange(h)[:, None].expand(h, w), "28 pixels are drawn in turn 0"),
        (lambda h, w: torch.zeros(h, w).long(), "784 pixels are drawn in turn 0"),
        (with_another_first, "2 pixels are drawn in turn 0"),
        (lambda height, width: of_the_package(28, 28, 2)[:height, :width], "none of the eight around it is there yet"),
        (lambda *sides: greedy(*sides).max() - greedy(*sides), "none of the eight around it is there yet"),
        (lambda *sides: greedy(*sides) + 1, "the first turn is 1"),
        (lambda *sides: greedy(*sides) - 1, "the first turn is -1"),
        (lambda *sides: 2 * greedy(*sides), "leave none out"),
        (lambda *sides: greedy(*sides).float(), "int64 is asked for"),
        (lambda *sides: greedy(*sides).int(), "int64 is asked for"),
        (lambda *sides: greedy(*sides).tolist(), "a turn for each pixel"),
        (lambda *sides: greedy(28, 28), "a turn for each pixel, (20, 26)"),
    ],
)
def test_own_order_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_own_order, answer)
    assert said.startswith("✗") and words in said
