"""Typical answers to the exercises of notebook 11: each wrong one is named for what it is."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pixelhelpers import MaskedConv2d, layers, receptive_field
from pixelhelpers.exercises import check_down_and_up, check_heard, check_moved_means


def verdict(capsys, check, answer) -> str:
    check(answer)
    return capsys.readouterr().out


@pytest.mark.parametrize("check", [check_heard, check_moved_means])
@pytest.mark.parametrize("stub", [None, ..., lambda *arguments: None, lambda *arguments, **more: ...])
def test_unsolved_stub_gets_a_friendly_line(capsys, check, stub):
    assert verdict(capsys, check, stub).startswith("✎ Not solved yet")


# What comes through the smaller sizes


def newer_than(number):
    """Heard is what comes before a pixel of this number in raster order."""

    def answer(row, column, shape, halvings):
        return torch.arange(shape[0] * shape[1]).view(shape) < number(row, column, shape[1], 2**halvings)

    return answer


solution = newer_than(lambda row, column, width, side: row // side * side * width + column // side * side)


def by_square(rule):
    """From a rule for a pixel's row and column and those of the square's first pixel to a mask."""

    def answer(row, column, shape, halvings):
        side = 2**halvings
        rows, columns = torch.arange(shape[0])[:, None], torch.arange(shape[1])
        return rule(rows, columns, row // side * side, column // side * side).expand(shape)

    return answer


class Through(nn.Module):
    """Features of earlier pixels, made smaller some times and larger again, by no other way."""

    def __init__(self, halvings):
        super().__init__()
        self.first = MaskedConv2d("A", 1, 4, 5)
        self.shrink = nn.ModuleList(layers.DownRightShiftedConv2d(4, 4, (2, 2), stride=2) for _ in range(halvings))
        self.grow = nn.ModuleList(layers.DownRightShiftedConvTranspose2d(4, 4) for _ in range(halvings))

    def forward(self, x):
        h = self.first(x)
        shapes = []
        for shrink in self.shrink:
            shapes.append(h.shape[-2:])
            h = shrink(h)
        for grow in self.grow:
            h = grow(h, shapes.pop())
        return h


@pytest.mark.parametrize("halvings", [0, 1, 2])
def test_heard_is_what_comes_through_a_network(halvings):
    """No network hears more; what it hears reaches up to the newest pixel that it may."""
    torch.manual_seed(0)
    network, shape = Through(halvings), (10, 11)
    for at in ((4, 4), (5, 7), (9, 10), (7, 5)):
        seen = receptive_field(network, at, (1, *shape))
        may = solution(*at, shape, halvings)
        assert seen.any() and not (seen & ~may).any()
        assert seen.flatten().nonzero().max() == may.flatten().nonzero().max()


@pytest.mark.parametrize("answer", [solution, by_square(lambda r, c, top, left: (r < top) | ((r == top) & (c < left)))])
def test_heard_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_heard, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (newer_than(lambda row, column, width, side: row * width + column), "every earlier pixel"),
        (by_square(lambda r, c, top, left: (r < top) | ((r == top) & (c <= left))), "must not be told of itself"),
        (lambda *given: ~solution(*given), "*not* heard"),
        (by_square(lambda r, c, top, left: r < top), "left of the square is missing"),
        (by_square(lambda r, c, top, left: (r < top) & (c < left)), "the whole width"),
        (by_square(lambda r, c, top, left: (r <= top) & (c < left)), "the whole width"),
        (by_square(lambda r, c, top, left: (r <= top) & (c <= left) & ((r < top) | (c < left))), "the whole width"),
        (newer_than(lambda row, column, width, side: row // side * side * width + column), "the column is not"),
        (newer_than(lambda row, column, width, side: row * width + column // side * side), "the row is not"),
        (lambda row, column, shape, halvings: solution(row, column, shape, 1), "doubles their side"),
        (
            lambda row, column, shape, n: newer_than(
                lambda row, column, width, side: row // (2 * n) * 2 * n * width + column // (2 * n) * 2 * n
            )(row, column, shape, n),
            "a side of 6",
        ),
        (newer_than(lambda row, column, width, side: row // side * width + column // side), "in the small image"),
        (by_square(lambda r, c, top, left: (r < top + 4) & ((r < top) | (c < left + 4))), "not drawn before it"),
        (by_square(lambda r, c, top, left: r <= top), "It is earlier, but not earlier than"),
        (by_square(lambda r, c, top, left: r < 0), "so it may be"),
        (lambda *given: solution(*given).int(), "return bool"),
        (lambda *given: solution(*given).flatten(), "a mask, True for"),
        (lambda row, column, shape, halvings: row + "1", "raised TypeError"),
    ],
)
def test_heard_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_heard, answer)


# Means that move


def moved(scale=lambda level, levels: 2 * level / (levels - 1) - 1, rows=(0, 1, 2), keep=(1, 1, 1)):
    def answer(means, coefficients, red, green, levels):
        red, green = scale(red, levels), scale(green, levels)
        one, two, three = (coefficients[row] * kept for row, kept in zip(rows, keep, strict=True))
        return torch.stack([means[0], means[1] + one * red, means[2] + two * red + three * green])

    return answer


def in_place(means, coefficients, red, green, levels):
    means[:] = moved()(means, coefficients, red, green, levels)
    return means


def by_matrix(means, coefficients, red, green, levels):
    """All channels at once: what R and G, as two numbers, bring to each."""
    nothing = torch.zeros_like(coefficients[0])
    red_to_green, red_to_blue, green_to_blue = coefficients
    weights = torch.stack([nothing, nothing, red_to_green, nothing, red_to_blue, green_to_blue]).view(3, 2, -1)
    drawn = 2 * torch.stack([red, green]).to(means) / (levels - 1) - 1
    return means + torch.einsum("cdm,d->cm", weights, drawn)


@pytest.mark.parametrize(
    "answer",
    [moved(), in_place, by_matrix, moved(lambda level, levels: (level - (levels - 1) / 2) / ((levels - 1) / 2))],
)
def test_moved_means_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_moved_means, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda means, *rest: means, "No mean has moved"),
        (moved(lambda level, levels: level), "numbers from 0 to 7"),
        (moved(lambda level, levels: level / (levels - 1)), "scale from 0 to 1"),
        (moved(lambda level, levels: 2 * level / levels - 1), "7 steps from -1 to 1"),
        (moved(lambda level, levels: level / 127.5 - 1), "divide by 255"),
        (moved(keep=(1, 0, 1)), "R does not act on B"),
        (moved(keep=(1, 1, 0)), "G does not act on B"),
        (
            lambda m, c, r, g, n: torch.stack([m[0], m[1] + c[1] * (2 * r / 7 - 1), m[2] + c[2] * (2 * g / 7 - 1)]),
            "not channels but pairs",
        ),
        (moved(rows=(0, 2, 1)), "mixes up its two coefficients"),
        (moved(rows=(1, 0, 2)), "first row of coefficients is R to G"),
        (lambda m, c, r, g, n: moved()(m, c, r, r, n), "B follows R twice"),
        (lambda m, c, r, g, n: moved()(m, c, g, r, n), "changed places"),
        (
            lambda m, c, r, g, n: torch.stack([m[0], m[1] + c[0] * m[0], m[2] + c[1] * m[0] + c[2] * m[1]]),
            "other *means*",
        ),
        (
            lambda m, c, r, g, n: torch.stack(
                [
                    m[0],
                    m[1] + c[0] * (2 * r / 7 - 1),
                    m[2] + c[1] * (2 * r / 7 - 1) + c[2] * (m[1] + c[0] * (2 * r / 7 - 1)),
                ]
            ),
            "follows the mean of G",
        ),
        (lambda m, c, r, g, n: moved()(m, c, r, g, n) + c[:1], "mean of R has moved"),
        (moved(keep=(-1, -1, -1)), "move the wrong way"),
        (moved(keep=(2, 2, 2)), "twice as far"),
        (moved(lambda level, levels: 2 * level / (levels - 1)), "scale from 0 to 2"),
        (moved(rows=(2, 1, 0)), "are mixed up"),
        (moved(rows=(1, 2, 0)), "are mixed up"),
        (moved(rows=(2, 0, 1)), "are mixed up"),
        (lambda m, c, *rest: moved()(m, c.tanh(), *rest), "take no tanh"),
        (lambda *given: moved()(*given).clamp(-1, 1), "limit the means"),
        (lambda *given: moved()(*given).half(), "leave them as they are"),
        (lambda *given: moved()(*given).float(), "leave them as they are"),
        (lambda *given: moved()(*given).mT, "a mean for each channel and component"),
        (lambda m, c, *rest: moved()(m.detach(), c, *rest), "comes back to `means`"),
        (lambda m, c, *rest: moved()(m, c.detach(), *rest), "comes back to `coefficients`"),
        (lambda m, c, r, g, n: torch.stack([m[0], *(2 * moved()(m, c, r, g, n)[1:])]), "means of G are not right"),
        (lambda m, c, r, g, n: torch.stack([*moved()(m, c, r, g, n)[:2], m[2] * 2]), "means of B are not right"),
        (lambda m, c, r, g, n: moved()(m, c, r, g, n)[1:], "a mean for each channel and component"),
        (lambda m, c, r, g, n: m / "1", "raised TypeError"),
    ],
)
def test_moved_means_names_the_mistake(capsys, answer, words):
    assert words in verdict(capsys, check_moved_means, answer)


# Down and up


def to_the_right(x, by=1):
    return F.pad(x, (by, -by))


def down_by(x, by=1):
    return F.pad(x, (0, 0, by, -by))


def means(x):
    return F.avg_pool2d(x, 2)


def squares(h):
    return h.repeat_interleave(2, 2).repeat_interleave(2, 3)


def moved_means_of(*moves):
    def down(x):
        for move in moves:
            x = move(x)
        return means(x)

    return down


@pytest.mark.parametrize(
    "answer",
    [
        (moved_means_of(to_the_right, down_by), squares),
        (lambda x: down_by(means(x)), squares),
        (means, lambda h: squares(down_by(h))),
        (means, lambda h: down_by(squares(h), 2)),
        (lambda x: F.max_pool2d(to_the_right(down_by(x)), 2), lambda h: F.interpolate(h, scale_factor=2)),
        (lambda x: down_by(means(x.flip(3))), squares),  # rows above, in whatever order
        [lambda x: down_by(F.avg_pool2d(x, 3, 2, 1)), squares],
    ],
)
def test_down_and_up_accepts_what_is_right(capsys, answer):
    assert verdict(capsys, check_down_and_up, answer).startswith("✓")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((means, squares), "(2, 2) is told of (2, 3)"),
        ((lambda x: to_the_right(means(x)), squares), "(2, 2) is told of (3, 0)"),
        ((moved_means_of(to_the_right), squares), "(2, 2) is told of (3, 1)"),
        ((moved_means_of(down_by), squares), "(2, 2) is told of (2, 3)"),
        ((moved_means_of(lambda x: F.pad(x, (0, 0, -1, 1))), squares), "which is drawn later"),
        ((lambda x: x[:, :, 1::2, 1::2], squares), "(2, 2) is told of (3, 3)"),
        (
            (
                moved_means_of(to_the_right, down_by),
                lambda h: F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False),
            ),
            "which is drawn later",
        ),
        ((lambda x: means(x).roll(1, 2), squares), "(0, 0) is told of (6, 0)"),
        ((lambda x: down_by(means(x)), lambda h: h.repeat(1, 1, 2, 2)), "which is drawn later"),
        ((lambda x: 0 * means(x) + x.mean((2, 3), keepdim=True), squares), "which is drawn later"),
        ((lambda x: x[:, :, ::2, ::2], squares), "Nobody hears of the pixel at (0, 1)"),
        ((lambda x: 0 * means(x), squares), "Nothing comes through"),
        ((lambda x: torch.ones_like(means(x)), squares), "Nothing comes through"),
        ((lambda x: down_by(means(x)).detach(), squares), "no gradient comes back"),
        ((lambda x: x, lambda h: h), "half the size"),
        ((lambda x: down_by(means(x)).mT, lambda h: squares(h.mT)), "half the size"),
        ((means, lambda h: h), "twice the size"),
        (means, "Give two functions"),
        ((means,), "Give two functions"),
    ],
)
def test_down_and_up_names_the_mistake(capsys, answer, words):
    said = verdict(capsys, check_down_and_up, answer)
    assert said.startswith("✗") and words in said


@pytest.mark.parametrize("stub", [(lambda x: ..., lambda h: ...), (means, lambda h: None), None])
def test_a_way_that_is_not_there_gets_a_friendly_line(capsys, stub):
    assert verdict(capsys, check_down_and_up, stub).startswith("✎ Not solved yet")
