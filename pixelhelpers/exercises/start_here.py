"""Checks of notebook 00: bits and probabilities, how often the network is asked, a picture dearer than noise."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..models import load_pretrained
from ..scoring import bits_per_dim
from .verdict import Mistake, ask, exercise


@exercise
def check_times_as_probable(answer: Callable[[float, float, int], float]) -> str:
    """Checks how many times as probable one picture is as another, from what each costs.

    Arguments:
        answer: takes the bits per pixel of a picture, those of another, and the number of pixels of each; gives
            p(picture) / p(other).

    Example:
        >>> check_times_as_probable(lambda bits, other, pixels: other / bits)
        ✗ Not yet. You divide the costs. A bit is a factor of 2: subtract the costs, and take the power.
        >>> check_times_as_probable(lambda bits, other, pixels: 2 ** ((other - bits) * pixels))
        ✓ A bit is a factor of two: 0.1 bits at each of 784 pixels are a factor of 4e+23.
    """
    cases = ((2.9, 3.0, 784), (3.0, 2.5, 36), (1.25, 1.25, 100), (0.5, 1.5, 4), (8.0, 2.0, 16))
    results = []
    for case in cases:
        value = ask(answer, *case)
        value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Mistake(f"You return {type(value).__name__}: return a number.")
        results.append(float(value))

    def agree(formula: Callable[[float, float, int], float]) -> bool:
        pairs = zip(cases, results, strict=True)
        return all(math.isclose(result, formula(*case), rel_tol=1e-3, abs_tol=1e-12) for case, result in pairs)

    if agree(lambda b, o, n: 2 ** ((o - b) * n)):
        return "A bit is a factor of two: 0.1 bits at each of 784 pixels are a factor of 4e+23."
    mistakes: dict[str, Callable[[float, float, int], float]] = {
        "Upside down: the picture that costs fewer bits is the more probable one.": lambda b, o, n: 2 ** ((b - o) * n),
        "That is for one pixel: all pixels of the image are paid for.": lambda b, o, n: 2 ** (o - b),
        "The number of pixels multiplies the bits, not the probability: it belongs in the exponent.": lambda b, o, n: (
            n * 2 ** (o - b)
        ),
        "That is the difference in bits: it is the exponent of 2.": lambda b, o, n: (o - b) * n,
        "That is the difference in bits per pixel.": lambda b, o, n: o - b,
        "You divide the costs. A bit is a factor of 2: subtract the costs, and take the power.": lambda b, o, n: o / b,
        "A bit is a factor of 2; you take powers of e.": lambda b, o, n: math.exp((o - b) * n),
        "A bit is a factor of 2; you take powers of 10.": lambda b, o, n: 10.0 ** ((o - b) * n),
        "A probability is never a negative number of times another: the sign belongs in the exponent.": (
            lambda b, o, n: -(2 ** ((o - b) * n))
        ),
        "You lose the sign of the difference: the other picture may be the more probable one.": lambda b, o, n: (
            2 ** (abs(o - b) * n)
        ),
        "All images have 784 pixels in your function: use the argument.": lambda b, o, n: 2.0 ** ((o - b) * 784),
        "That squares it: each pixel is paid for once.": lambda b, o, n: 2 ** ((o - b) * n * 2),
    }
    for words, formula in mistakes.items():
        if agree(formula):
            raise Mistake(words)
    right = [2 ** ((other - bits) * pixels) for bits, other, pixels in cases]
    pairs = zip(cases, results, right, strict=True)
    bits, other, pixels = next(case for case, a, b in pairs if not math.isclose(a, b, rel_tol=1e-3))
    raise Mistake(
        f"{pixels} pixels at {bits} bits cost {bits * pixels:g} bits, at {other} bits {other * pixels:g}: what is "
        "the factor between them?"
    )


@exercise
def check_times_asked(answer: Callable[[int, int, int], int]) -> str:
    """Checks how often the network is asked to finish pictures whose upper rows are given.

    Arguments:
        answer: takes the number of pictures, painted side by side, the side of each, and how many upper rows are there
            already; gives the number of passes.

    Example:
        >>> check_times_asked(lambda pictures, side, rows: side * (side - rows))
        ✓ One pass for each pixel that is missing, however many pictures are painted side by side.
    """
    cases = ((16, 28, 0), (1, 28, 14), (5, 10, 3), (3, 8, 8), (100, 32, 31))
    results = []
    for case in cases:
        value = ask(answer, *case)
        value = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        if isinstance(value, bool) or not isinstance(value, int):
            raise Mistake(f"A number of passes is an int; you return {value!r}.")
        results.append(value)
    if results == [side * (side - rows) for _, side, rows in cases]:
        return "One pass for each pixel that is missing, however many pictures are painted side by side."
    mistakes: dict[str, Callable[[int, int, int], int]] = {
        "The pictures are painted side by side: each pass serves all of them.": lambda n, s, r: n * s * (s - r),
        "The rows that are there need not be painted.": lambda n, s, r: s * s,
        "Those are the pixels that are there: the others are painted.": lambda n, s, r: s * r,
        "A row has many pixels, and each waits for the one before.": lambda n, s, r: s - r,
        "That is a pass for a picture. Reading takes one pass; painting asks for every pixel.": lambda n, s, r: n,
        "One pass is enough to read. The painter asks for every pixel anew.": lambda n, s, r: 1,
        "The first missing pixel has to be asked for as well.": lambda n, s, r: s * (s - r) - 1,
        "After the last pixel nobody asks.": lambda n, s, r: s * (s - r) + 1,
        "`rows` are whole rows, each of `side` pixels.": lambda n, s, r: s * s - r,
        "The square belongs to the picture: rows are missing from its height only.": lambda n, s, r: (s - r) ** 2,
        "The side is an argument: not every picture has 28 rows.": lambda n, s, r: 28 * (28 - r),
        "The pictures have nothing to do with it: each pass serves all of them.": lambda n, s, r: s * (s - r) + n,
    }
    for words, formula in mistakes.items():
        if results == [formula(*case) for case in cases]:
            raise Mistake(words)
    case, said = next((c, a) for c, a in zip(cases, results, strict=True) if a != c[1] * (c[1] - c[2]))
    raise Mistake(
        f"pictures = {case[0]}, side = {case[1]}, rows = {case[2]}: you say {said}. Which pixels are missing, and "
        "how often is each asked for?"
    )


@exercise
def check_dearer_than_noise(answer: Any) -> str:
    """Checks a picture that costs the digits' model more than noise does.

    Arguments:
        answer: the picture, integers 0 to 255, `[28, 28]`.

    Example:
        >>> check_dearer_than_noise(torch.zeros(28, 28))  # doctest: +ELLIPSIS
        ✗ Not yet. That picture costs 0.0... bits per pixel...
    """
    try:
        picture = torch.as_tensor(answer).squeeze()
    except (TypeError, ValueError) as error:
        raise Mistake(f"That is no picture: {error}. Give numbers [28, 28].") from None
    if picture.shape != (28, 28):
        raise Mistake(f"Your picture has the shape {tuple(picture.shape)}: [28, 28] is asked for.")
    if not ((picture == picture.round()) & (picture >= 0) & (picture <= 255)).all():
        raise Mistake("Levels are whole numbers from 0 to 255; your picture has others.")
    model = load_pretrained("pixelcnn-digits")
    noise = torch.randint(256, (8, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    both = torch.cat([picture.to(torch.uint8)[None, None], noise])
    with torch.inference_mode():
        bits = bits_per_dim(model.log_prob(both), both)
    mine, dearest = float(bits[0]), float(bits[1:].max())
    if mine <= dearest:
        raise Mistake(
            f"That picture costs {mine:.2f} bits per pixel, noise up to {dearest:.2f}. What is never expected?"
        )
    return f"{mine:.2f} bits per pixel; noise costs {dearest:.2f}. How far can you drive it?"
