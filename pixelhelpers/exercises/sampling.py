"""Checks of notebook 04: temperature, top-p, completion."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..models import PixelCNN
from ..sampling import draw
from .verdict import Mistake, ask, exercise


def _probabilities(result, like: Tensor) -> Tensor:
    if not isinstance(result, Tensor):
        raise Mistake(f"The answer is a {type(result).__name__}: return a tensor.")
    if result.shape != like.shape:
        raise Mistake(
            f"The answer has shape {tuple(result.shape)} for probabilities {tuple(like.shape)}: keep the shape."
        )
    return result.double()


def _row(values: Tensor) -> str:
    return "[" + ", ".join(f"{value:.3g}" for value in values.tolist()) + "]"


def _normalised(values: Tensor, axis: int = -1) -> Tensor:
    return values / values.sum(axis, keepdim=True)


def _diagnose(result: Tensor, mistakes: dict[str, Tensor]) -> None:
    for message, wrong in mistakes.items():
        if torch.allclose(result, wrong, atol=1e-6):
            raise Mistake(message)


@exercise
def check_temperature(answer: Callable[[Tensor, float], Tensor]) -> str:
    """Checks a function that applies a temperature to probabilities.

    Arguments:
        answer: takes probabilities `[N, levels]` and the temperature T, a number above 0; returns
            them to the power 1/T, normalised.

    Example:
        >>> check_temperature(lambda probs, T: probs / T)
        ✗ Not yet. The rows sum to 2 at T = 0.5: divide by their sums.
        >>> check_temperature(lambda probs, T: (probs.log() / T).softmax(-1))
        ✓ Sharper below 1, flatter above, the same at 1, and it survives T = 0.01.
    """
    probs = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    for T in (0.5, 2.0, 1.0):
        before = probs.clone()
        result = _probabilities(ask(answer, probs, T), probs)
        if not torch.equal(probs, before):
            raise Mistake("Your function changed the probabilities it was given: work on a copy.")
        right = _normalised(probs ** (1 / T))
        if torch.allclose(result, right, atol=1e-6):
            continue
        if result.isnan().any():
            raise Mistake(f"NaN at T = {T}: one of the probabilities is 0, and 0 · log 0 is NaN.")
        _diagnose(
            result,
            {
                "The temperature does nothing. A factor cancels when you normalise; 1/T must be an "
                "exponent (or divide the *logarithms* by T).": probs,
                f"Upside down: at T = {T} the exponent is 1/T = {1 / T}, not T.": _normalised(probs**T),
                "softmax takes logarithms; you gave it probabilities.": (probs / T).softmax(-1),
                "softmax takes logarithms; you gave it the powers themselves.": (probs ** (1 / T)).softmax(-1),
                "You normalised over the images (axis 0) instead of over the levels (the last axis).": _normalised(
                    probs ** (1 / T), 0
                ),
            },
        )
        sums = result.sum(-1)
        if not torch.allclose(sums, torch.ones_like(sums)):
            raise Mistake(f"The rows sum to {sums[0]:.3g} at T = {T}: divide by their sums.")
        raise Mistake(f"At T = {T}, {_row(probs[0])} became {_row(result[0])} instead of {_row(right[0])}.")
    flat = torch.full((1, 256), 1 / 256)
    if ask(answer, flat, 0.01).isnan().any():
        raise Mistake(
            "Right for larger T, but at T = 0.01 the 100th powers of 1/256 underflow to 0, and 0/0 "
            "is NaN: divide the logarithms by T and let softmax normalise."
        )
    return "Sharper below 1, flatter above, the same at 1, and it survives T = 0.01."


@exercise
def check_top_p(answer: Callable[[Tensor, float], Tensor]) -> str:
    """Checks a function that keeps only the most likely levels.

    Arguments:
        answer: takes probabilities `[N, levels]` and p in (0, 1]; returns them with all but the
            fewest most likely levels that together reach p set to 0 (of equals at the edge all may stay), normalised.

    Example:
        >>> check_top_p(lambda probs, p: torch.where(probs >= p, probs, 0))
        ✗ Not yet. For p = 0.6 and row [0.1, 0.4, 0.2, 0.3] nothing is left: p bounds the *sum*.
    """
    probs = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.7, 0.05, 0.15, 0.1]], dtype=torch.float64)
    p = 0.6
    before = probs.clone()
    result = _probabilities(ask(answer, probs, p), probs)
    if not torch.equal(probs, before):
        raise Mistake("Your function changed the probabilities it was given: work on a copy.")
    right = torch.tensor([[0, 4 / 7, 0, 3 / 7], [1, 0, 0, 0]], dtype=torch.float64)
    likely, _ = probs.sort(-1, descending=True)
    within = probs * (probs.cumsum(-1) - probs < p)
    rare = torch.tensor([[0.1, 0, 0.2, 0.3], [0.7, 0.05, 0.15, 0.1]], dtype=torch.float64)
    too_many = torch.tensor([[0, 0.4, 0.2, 0.3], [0.7, 0, 0.15, 0]], dtype=torch.float64)
    case = f"For p = {p} and row {_row(probs[0])}"
    if not torch.allclose(result, right, atol=1e-6):
        if (result.nan_to_num() == 0).all(-1).any():
            which = "p bounds the *sum*."
            if result[0].nan_to_num().any():
                which = "the most likely level is kept even when it alone exceeds p."
            row = probs[(result.nan_to_num() == 0).all(-1)][0]
            raise Mistake(f"For p = {p} and row {_row(row)} nothing is left: {which}")
        _diagnose(
            result,
            {
                f"{case} you kept only [0.4]: the level that crosses p belongs to the set, or it "
                "would not reach p.": torch.tensor([[0, 1.0, 0, 0], [1, 0, 0, 0]]).double(),
                "You kept the *least* likely levels: sort in descending order.": _normalised(rare),
                "You added up in the order of the levels: sort by probability first.": _normalised(within),
                f"{case} you kept one level too many: 0.4 + 0.3 already reaches p.": _normalised(too_many),
            },
        )
        sums = result.sum(-1)
        if not torch.allclose(sums, torch.ones_like(sums)):
            raise Mistake(f"The rows sum to {_row(sums)}: divide by what is left.")
        if torch.allclose(result.sort(-1)[0], right.sort(-1)[0], atol=1e-6):
            if torch.allclose(result, _normalised(likely * (likely.cumsum(-1) - likely < p)), atol=1e-6):
                raise Mistake(
                    "The right probabilities at the wrong levels: they are still in sorted "
                    "order; put each back where it came from (scatter)."
                )
        raise Mistake(f"{case} came {_row(result[0])} instead of {_row(right[0])}.")
    if not torch.allclose(_probabilities(ask(answer, probs, 1.0), probs), probs):
        raise Mistake("With p = 1 every level must stay.")
    return "The fewest levels that reach p, each where it was, and p = 1 changes nothing."


def _vivid_model() -> PixelCNN:
    """A small random model whose conditionals depend strongly on what is already there."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = PixelCNN(levels=4, hidden=16, blocks=1, image_size=6).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2)
    return model


@torch.inference_mode()
def _completed(
    model: PixelCNN,
    canvas: Tensor,
    known: Tensor,
    uniform: Tensor,
    by_columns: bool = False,
    greedy: bool = False,
) -> Tensor:
    """Keeps what is known on the canvas and draws the rest."""
    canvas = canvas.clone()
    height, width = known.shape
    places = [(row, column) for row in range(height) for column in range(width)]
    for row, column in sorted(places, key=lambda place: place[::-1]) if by_columns else places:
        if not known[row, column]:
            probs = model(canvas)[:, :, row, column].softmax(1)
            canvas[:, 0, row, column] = draw(probs, uniform[:, 0, row, column], greedy=greedy).to(canvas)
    return canvas


@exercise
def check_completion(answer: Callable[[PixelCNN, Tensor, Tensor, Tensor], Tensor]) -> str:
    """Checks a function that completes images whose first pixels are known.

    Arguments:
        answer: takes a model, images uint8 `[N, 1, H, W]`, which pixels are known, bool `[H, W]`,
            and uniform numbers `[N, 1, H, W]`, float64; returns uint8 `[N, 1, H, W]`.

    Example:
        >>> check_completion(lambda model, given, known, uniform: given)
        ✗ Not yet. The unknown pixels are those of `given`: nothing was drawn.
    """
    model = _vivid_model()
    generator = torch.Generator().manual_seed(1)
    given = torch.randint(4, (8, 1, 6, 6), generator=generator, dtype=torch.uint8)
    uniform = torch.rand(8, 1, 6, 6, generator=generator, dtype=torch.float64)
    known = (torch.arange(36) < 20).view(6, 6)  # three rows and two pixels
    before = given.clone()
    with torch.random.fork_rng(devices=[]):
        result = ask(answer, model, given, known, uniform)
        again = ask(answer, model, given, known, uniform) if torch.equal(given, before) else None
    if again is None:
        raise Mistake("Your function painted over `given` itself: start from a copy.")
    if not isinstance(result, Tensor) or result.shape != given.shape:
        shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise Mistake(f"The answer is {shape}: return images {tuple(given.shape)}.")
    if result.is_floating_point():
        raise Mistake(f"The answer has type {result.dtype}: images are integers, return torch.uint8.")
    nothing = torch.zeros_like(known)
    start = given * known
    right = _completed(model, start, known, uniform)
    if torch.equal(result.to(right), right):
        return "Known pixels kept, unknown ones drawn in the light of all before them."
    if torch.equal(result, given):
        raise Mistake("The unknown pixels are those of `given`: nothing was drawn.")
    free = _completed(model, torch.zeros_like(given), nothing, uniform)
    if torch.equal(result, free):
        raise Mistake("These are free samples: known pixels are painted over. Skip those that are known.")
    if torch.equal(result, torch.where(known, given, free)):
        raise Mistake(
            "You drew whole images and pasted the known pixels on afterwards: what was drawn never "
            "saw them. They must be on the canvas before the first draw."
        )
    if not torch.equal(result[:, :, known], given[:, :, known]):
        raise Mistake("Known pixels have changed: skip them in the loop.")
    if not torch.equal(result, again):
        raise Mistake("Two calls with the same numbers differ: use `uniform` in place of torch.multinomial.")
    if torch.equal(result, _completed(model, start, known, uniform, greedy=True)):
        raise Mistake("This is the argmax at every pixel: turn the numbers in `uniform` into levels instead.")
    if torch.equal(result, _completed(model, start, known, uniform, by_columns=True)):
        raise Mistake("You paint column by column; the model's order is row by row.")
    if torch.equal(result, start):
        raise Mistake("The unknown pixels are all 0: write what you draw onto the canvas.")
    if torch.equal(result, _never_written(model, start, known, uniform)):
        raise Mistake(
            "All unknown pixels were drawn from one look at the canvas: each must be written before the next is drawn."
        )
    at = (result != right).any(0)[0].nonzero()[0].tolist()
    raise Mistake(
        f"The first pixel that differs is row {at[0]}, column {at[1]}. Draw it with uniform[:, 0, "
        "row, column] from the softmax of the logits at that place."
    )


def _never_written(model: PixelCNN, canvas: Tensor, known: Tensor, uniform: Tensor) -> Tensor:
    with torch.inference_mode():
        drawn = draw(model(canvas).softmax(1)[:, None].movedim(2, -1), uniform).to(canvas)
    return torch.where(known, canvas, drawn)
