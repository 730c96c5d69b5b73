"""Checks of notebook 11: what comes through the smaller sizes, means that move, a way down and up."""

from collections.abc import Callable

import torch
from torch import Tensor

from .verdict import Mistake, ask, exercise, learns, name_mistake, of_shape


@exercise
def check_heard(answer: Callable[[int, int, tuple[int, int], int], Tensor]) -> str:
    """Checks which pixels may be known to what comes up from a smaller size.

    Arguments:
        answer: takes row and column of a pixel, the shape (height, width) of the image, and how often the size was
            halved; returns bool `[H, W]`: the pixels that may be heard there by way of that size.

    Example:
        >>> check_heard(lambda row, column, shape, halvings: torch.ones(shape).bool())
        ✗ Not yet. At (13, 11), halved twice: (13, 12) is heard, which is not drawn before it.
    """
    shape, (row, column) = (14, 13), (13, 11)
    place = torch.arange(shape[0] * shape[1]).view(shape)
    rows, columns = place // shape[1], place % shape[1]

    def before(row: int, column: int) -> Tensor:
        return place < row * shape[1] + column

    for halvings in (2, 3, 1, 0):
        result = ask(answer, row, column, shape, halvings)
        result = of_shape(result, shape, "a mask, True for the pixels that are heard")
        if result.dtype != torch.bool:
            raise Mistake(f"The mask is {result.dtype}: return bool.")
        side = 2**halvings
        top, left = row // side * side, column // side * side
        right = before(top, left)
        if torch.equal(result, right):
            continue
        first = f"the upper left pixel of the square, {(top, left)}"
        suspects = (
            (
                before(row, column),
                f"you mark every earlier pixel. But {first}, is given what comes up as well: it must not be told of "
                "itself or of what is later.",
            ),
            (
                right | (place == top * shape[1] + left),
                f"{first}, is among them. It is the first that is given what comes up, and must not be told of itself.",
            ),
            (~right, "these are the pixels that are *not* heard."),
            (rows < top, f"in row {top}, what lies left of the square is missing."),
            (
                (rows <= top) & (columns < left) | (rows < top) & (columns == left),
                "above the square, the whole width may be known, to the right as well.",
            ),
            ((rows <= top) & (columns < left), "above the square, the whole width may be known, to the right as well."),
            ((rows < top) & (columns < left), "above the square, the whole width may be known, to the right as well."),
            (before(top, column), "the row is that of the square's upper left pixel, the column is not."),
            (before(row, left), "the column is that of the square's upper left pixel, the row is not."),
            (
                before(row // 2 * 2, column // 2 * 2),
                "the squares are of 2 × 2 pixels. Each halving doubles their side.",
            ),
            (
                before(row // (2 * halvings or 1) * 2 * halvings, column // (2 * halvings or 1) * 2 * halvings),
                f"the squares have a side of {2 * halvings}. Each halving *doubles* the side: 2, 4, 8.",
            ),
            (
                before(row // side, column // side),
                "these are row and column in the small image. Where does the square begin in the large one?",
            ),
        )
        often = {0: "not halved at all", 1: "halved once", 2: "halved twice", 3: "halved three times"}[halvings]
        at = f"At {(row, column)}, {often}: "
        name_mistake(result.int(), ((wrong.int(), at + words) for wrong, words in suspects))
        for marked, words in (
            (result & ~before(row, column), "is heard, which is not drawn before it."),
            (result & ~right, f"is heard. It is earlier, but not earlier than {first}."),
            (right & ~result, f"is not heard. It is earlier than {first}, so it may be."),
        ):
            if marked.any():
                raise Mistake(f"{at}{tuple(marked.nonzero()[-1].tolist())} {words}")
    return "What is earlier than the square's first pixel, and nothing newer."


@exercise
def check_moved_means(answer: Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]) -> str:
    """Checks how the means of G and B follow the channels that were drawn before.

    Arguments:
        answer: takes means and coefficients `[3, M]`, two levels and their number; returns means `[3, M]`.

    Example:
        >>> check_moved_means(lambda means, coefficients, red, green, levels: means + coefficients)
        ✗ Not yet. The mean of R has moved: R is drawn first and depends on no other channel.
    """
    generator = torch.Generator().manual_seed(0)
    means, coefficients = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64)
    levels = 8
    for red, green in ((6, 2), (0, 5)):
        result = ask(answer, means.clone(), coefficients.clone(), torch.tensor(red), torch.tensor(green), levels)
        result = of_shape(result, means.shape, "a mean for each channel and component")
        if result.dtype != means.dtype:
            raise Mistake(f"The means came as {means.dtype} and go as {result.dtype}: leave them as they are.")

        def moved(r, g, to_green=coefficients[0], red_to_blue=coefficients[1], green_to_blue=coefficients[2]):
            return torch.stack([means[0], means[1] + to_green * r, means[2] + red_to_blue * r + green_to_blue * g])

        r, g = 2 * red / (levels - 1) - 1, 2 * green / (levels - 1) - 1
        right = moved(r, g)
        if torch.allclose(result, right):
            continue
        one, two, three = coefficients
        suspects = (
            (means, "No mean has moved."),
            (
                moved(r, g).clamp(-1, 1),
                "You limit the means to -1 … 1: a mean may lie beyond, the outer levels own it.",
            ),
            (means - (moved(r, g) - means), "The means move the wrong way: add, do not subtract."),
            (means + 2 * (moved(r, g) - means), "The means move twice as far as they should."),
            (moved(r, g, *coefficients.tanh()), "The coefficients come ready: here they take no tanh."),
            (
                moved(r + 1, g + 1),
                "The levels act on a scale from 0 to 2: the middle of the scale is 0, so take 1 away.",
            ),
            *(
                (
                    moved(r, g, *(coefficients[place] for place in order)),
                    "The rows of coefficients are mixed up: they are R to G, R to B, G to B, in this order.",
                )
                for order in ((2, 1, 0), (1, 2, 0), (2, 0, 1))
            ),
            (
                moved(red, green),
                f"The levels act as numbers from 0 to {levels - 1}. They lie on the scale from -1 to 1.",
            ),
            (
                moved(red / (levels - 1), green / (levels - 1)),
                "The levels act on a scale from 0 to 1. Means live on the scale from -1 to 1.",
            ),
            (
                moved(2 * red / levels - 1, 2 * green / levels - 1),
                f"There are {levels} levels, but {levels - 1} steps from -1 to 1.",
            ),
            (moved(red / 127.5 - 1, green / 127.5 - 1), f"You divide by 255: here are {levels} levels."),
            (moved(r, g, red_to_blue=0), "R does not act on B: the second row of coefficients is missing."),
            (moved(r, g, green_to_blue=0), "G does not act on B: the third row of coefficients is missing."),
            (
                moved(r, g, one, three, two),
                "B mixes up its two coefficients: the second row belongs to R, the third to G.",
            ),
            (moved(r, g, two, one, three), "The first row of coefficients is R to G, the second R to B."),
            (
                torch.stack([means[0], means[1] + two * r, means[2] + three * g]),
                "The rows of coefficients are not channels but pairs: R to G, R to B, G to B.",
            ),
            (moved(r, r), "B follows R twice: the third row of coefficients goes with G."),
            (moved(g, r), "R and G have changed places."),
            (
                torch.stack([means[0], means[1] + one * means[0], means[2] + two * means[0] + three * means[1]]),
                "The means follow other *means*. They follow the levels that were drawn.",
            ),
            (
                moved(r, means[1] + one * r),
                "B follows the mean of G. It follows the level of G that was drawn.",
            ),
        )
        name_mistake(result, suspects)
        if not torch.allclose(result[0], means[0]):
            raise Mistake("The mean of R has moved: R is drawn first and depends on no other channel.")
        channel = "G" if not torch.allclose(result[1], right[1]) else "B"
        raise Mistake(
            f"For levels R = {red} and G = {green} of {levels}, the means of {channel} are not right. On the scale "
            f"from -1 to 1 these lie at {r:.3f} and {g:.3f}."
        )
    means, coefficients = means.requires_grad_(), coefficients.requires_grad_()
    levels_drawn = torch.tensor(red), torch.tensor(green)
    learns(
        ask(answer, means.clone(), coefficients.clone(), *levels_drawn, levels), means=means, coefficients=coefficients
    )
    return "G follows R, B follows both, by levels that were drawn."


@exercise
def check_down_and_up(answer: tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]) -> str:
    """Checks a way down to half the size and up again that no pixel learns its future from.

    Arguments:
        answer: two functions, down `[N, C, H, W]` to `[N, C, H / 2, W / 2]` for even sides, and up, back again.
            Together they are of type B: a pixel of the result may depend on itself and on what is drawn before.

    Example:
        >>> from torch.nn import functional as F
        >>> down, up = (lambda x: F.avg_pool2d(x, 2)), (lambda h: F.interpolate(h, scale_factor=2))
        >>> check_down_and_up((down, up))  # doctest: +ELLIPSIS
        ✗ Not yet. The pixel at (2, 2) is told of (2, 3), which is drawn later...
    """
    if not isinstance(answer, tuple | list) or len(answer) != 2 or not all(map(callable, answer)):
        raise Mistake("Give two functions, (down, up).")
    down, up = answer
    generator = torch.Generator().manual_seed(0)
    side = 8
    x = torch.randn(1, 1, side, side, generator=generator, dtype=torch.float64)
    for given, function, shape in (
        (torch.randn(2, 3, 6, side, dtype=torch.float64), down, (2, 3, 3, side // 2)),
        (torch.randn(2, 3, 3, side // 2, dtype=torch.float64), up, (2, 3, 6, side)),
    ):
        of_shape(ask(function, given), shape, "half the size" if function is down else "twice the size")

    def both(x: Tensor) -> Tensor:
        return ask(up, ask(down, x))

    wide = torch.cat([both(x + bump) for bump in (0.0, *_bumps(side))])
    moves = (wide[1:] != wide[0]).any(1).flatten(1).T  # [outputs, inputs]
    place = torch.arange(side * side)
    later = moves & (place > place[:, None])
    if later.any():
        inside = 2 * side + 2  # the first place where no border explains it
        output, told = (later[inside:] if later[inside:].any() else later).nonzero()[0].tolist()
        output += inside if later[inside:].any() else 0
        raise Mistake(
            f"The pixel at {divmod(output, side)} is told of {divmod(told, side)}, which is drawn later. Which pixel "
            "of a square is drawn first, and what is there by then?"
        )
    if not moves.any():
        raise Mistake("Nothing comes through: change the image, and the result stays the same.")
    deaf = ~moves.any(1)
    if deaf[3 * side :].any():
        at = divmod(int(deaf[3 * side :].nonzero()[0]) + 3 * side, side)
        raise Mistake(f"The pixel at {at} hears nothing, and there are rows enough above it.")
    mute = ~moves.any(0)[: (side - 4) * side].view(-1, side)[:, : side - 2]
    if mute.any():
        raise Mistake(
            f"Nobody hears of the pixel at {tuple(mute.nonzero()[0].tolist())}, and of {int(mute.sum()) - 1} others: "
            "half the size is to stand for the whole image, not for a part of its pixels."
        )
    x = x.requires_grad_()
    learns(both(x), x=x)
    return "Down, up, and nobody is told of what is still to be drawn."


def _bumps(side: int) -> Tensor:
    """One image for each pixel, changed in that pixel alone and by much."""
    return 100 * torch.eye(side * side, dtype=torch.float64).view(-1, 1, 1, side, side)
