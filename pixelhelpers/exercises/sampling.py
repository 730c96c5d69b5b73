"""Checks of notebook 04: the sampler, temperature, top-p, completion, and what comes later."""

from collections.abc import Callable, Sequence

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


def _same(result: Tensor, other: Tensor) -> bool:
    return torch.allclose(result, other.double(), atol=1e-6, equal_nan=True)


def _different(case: str, probs: Tensor, result: Tensor, right: Tensor) -> Mistake:
    """Shows the row in which a result is furthest from the right one."""
    row = int((result - right).nan_to_num(1.0).abs().amax(-1).argmax())
    if probs.shape[1] > 8:
        level = int((result - right)[row].nan_to_num(1.0).abs().argmax())
        return Mistake(
            f"{case}, level {level} of row {row} goes from {probs[row, level]:.3g} to {result[row, level]:.3g}; "
            f"{right[row, level]:.3g} is right."
        )
    return Mistake(f"{case}, row {_row(probs[row])} became {_row(result[row])} instead of {_row(right[row])}.")


def _like_a_conditional(rows: int, spread: float = 2.0) -> Tensor:
    """Probabilities `[rows, 256]`, float32, as unequal as those of a trained network."""
    generator = torch.Generator().manual_seed(0)
    return (spread * torch.randn(rows, 256, generator=generator)).softmax(-1)


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
        _check_tempered(answer, probs, T)
    close = torch.tensor([[0.26, 0.25, 0.25, 0.24], [0.25, 0.25, 0.25, 0.25]])
    for cold in (torch.full((1, 256), 1 / 256), _like_a_conditional(4), close):
        for T in (0.01, 0.05):
            result = _probabilities(ask(answer, cold.clone(), T), cold)
            right = (cold.double().log() / T).softmax(-1)
            if result.isnan().any() or not result.any(-1).all():
                raise Mistake(
                    f"Right for larger T, but at T = {T} the powers of small probabilities underflow to 0, and 0/0 "
                    "is NaN: divide the logarithms by T and let softmax normalise."
                )
            if torch.allclose(result, right, rtol=1e-3, atol=1e-4):
                continue
            if _same(result.amax(-1), torch.ones(len(cold))):
                raise Mistake(
                    f"At T = {T} you take the most likely level alone. That is the limit, T = 0; here nearly equal "
                    "levels still share."
                )
            raise _different(f"Right for larger T, but at T = {T}", cold, result, right)
    return "Sharper below 1, flatter above, the same at 1, and it survives T = 0.01."


def _check_tempered(answer: Callable[[Tensor, float], Tensor], probs: Tensor, T: float) -> None:
    before = probs.clone()
    result = _probabilities(ask(answer, probs, T), probs)
    if not torch.equal(probs, before):
        raise Mistake("Your function changed the probabilities it was given: work on a copy.")
    right = _normalised(probs ** (1 / T))
    if _same(result, right):
        return
    if result.isnan().any():
        raise Mistake(f"NaN at T = {T}: one of the probabilities is 0, and 0 · log 0 is NaN.")
    if (result < 0).any():
        raise Mistake("Some numbers are negative: these are logarithms, and probabilities are asked for.")
    mistakes = {
        "The temperature does nothing. A factor cancels when you normalise; 1/T must be an "
        "exponent (or divide the *logarithms* by T).": probs,
        f"Upside down: at T = {T} the exponent is 1/T = {1 / T}, not T.": _normalised(probs**T),
        "softmax takes logarithms; you gave it probabilities.": (probs / T).softmax(-1),
        "softmax takes logarithms; you gave it the powers themselves.": (probs ** (1 / T)).softmax(-1),
        "softmax undoes natural logarithms; you gave it logarithms to base 2.": (probs.log2() / T).softmax(-1),
        "softmax undoes natural logarithms; you gave it logarithms to base 10.": (probs.log10() / T).softmax(-1),
        f"The exponent is 1/T = {1 / T}; you take the square of that.": (probs.log() / T**2).softmax(-1),
        f"The exponent is 1/T = {1 / T}; you take the root of that.": (probs.log() / T**0.5).softmax(-1),
        "Every row got the answer of the first row.": right[:1].expand_as(right),
        "You normalised over the images (axis 0) instead of over the levels (the last axis).": _normalised(
            probs ** (1 / T), 0
        ),
        "You normalised over the whole batch: each row must sum to 1.": probs ** (1 / T) / (probs ** (1 / T)).sum(),
    }
    for words, wrong in mistakes.items():
        if _same(result, wrong):
            raise Mistake(words)
    if (result[probs == 0] > 0).any():
        raise Mistake(
            f"A level of probability 0 gets {float(result[probs == 0].max()):.2g} at T = {T}, but 0 to "
            "any power is 0: is something added to the probabilities?"
        )
    sums = result.sum(-1)
    if not torch.allclose(sums, torch.ones_like(sums)):
        raise Mistake(f"The rows sum to {sums[0]:.3g} at T = {T}: divide by their sums.")
    raise _different(f"At T = {T}", probs, result, right)


def _top_p(probs: Tensor, p: float, before: Callable[[Tensor, float], Tensor] = torch.lt) -> Tensor:
    likely, level = probs.double().sort(dim=-1, descending=True, stable=True)
    kept = likely * before(likely.cumsum(-1) - likely, p)
    return _normalised(torch.zeros_like(likely).scatter(-1, level, kept))


def _most_likely(probs: Tensor, count: int) -> Tensor:
    likely, level = probs.double().topk(count, -1)
    return _normalised(torch.zeros_like(probs.double()).scatter(-1, level, likely))


def _count(kept: Tensor) -> Tensor:
    return (kept.nan_to_num() != 0).sum(-1)


TOP_P_MISTAKES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "You kept the *least* likely levels: sort in descending order.": lambda q, p: _normalised(_top_p_of_rare(q, p)),
    "You added up in the order of the levels: sort by probability first.": lambda q, p: _normalised(
        q * (q.cumsum(-1) - q < p)
    ),
    "The kept levels became equally likely: each keeps its share.": lambda q, p: _normalised(1.0 * (_top_p(q, p) > 0)),
    "You kept the set of the first row in every row: each row has its own.": lambda q, p: _normalised(
        q * (_top_p(q[:1], p) > 0)
    ),
    "You kept as many levels in every row as the row that needs most: each row has its own number.": lambda q, p: (
        _most_likely(q, int(_count(_top_p(q, p)).max()))
    ),
    "You kept as many levels in every row as the row that needs fewest: each row has its own number.": lambda q, p: (
        _most_likely(q, int(_count(_top_p(q, p)).min()))
    ),
    "You sorted all rows together: each row has a set of its own.": lambda q, p: _normalised(
        _top_p(q.flatten()[None], p * len(q))[0].view_as(q)
    ),
    "These are the levels to forget: keep the others.": lambda q, p: _normalised(q * (_top_p(q, p) == 0)),
    "The right levels, but softmax takes logarithms and you gave it probabilities.": lambda q, p: q.where(
        _top_p(q, p) > 0, -torch.inf
    ).softmax(-1),
    "You kept every level that has at least a share of the largest probability. That is min-p; top-p bounds the sum.": (
        lambda q, p: _normalised(q.where(q >= (1 - p) * q.amax(-1, keepdim=True), 0))
    ),
    "p is compared with single probabilities: it bounds the *sum* of those that are kept.": lambda q, p: _normalised(
        q.where(q >= 1 - p, 0)
    ),
    "p is taken as a share of the levels, a number of them: it is a share of the probability.": lambda q, p: (
        _most_likely(q, max(1, int(p * q.shape[-1])))
    ),
    "That is a quantile, so a share of the levels: p is a share of the probability.": lambda q, p: _normalised(
        q.where(q >= q.quantile(1 - p, -1, keepdim=True), 0)
    ),
    "You sorted and added over the images (axis 0): the levels are on the last axis.": lambda q, p: _top_p(q.T, p).T,
    "You return which levels to keep: return their probabilities, normalised.": lambda q, p: 1.0 * (_top_p(q, p) > 0),
    "You keep what reaches 1 - p: p is how much is kept, not how much is cut off.": lambda q, p: _top_p(q, 1 - p),
    "Nothing is cut off.": lambda q, p: q,
    "Only the most likely level is left: keep as many as reach p.": lambda q, p: _most_likely(q, 1),
}


def _top_p_of_rare(probs: Tensor, p: float) -> Tensor:
    rare, level = probs.sort(-1)
    return torch.zeros_like(probs).scatter(-1, level, rare * (rare.cumsum(-1) - rare < p))


TOP_P_CASES = (
    (torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.7, 0.05, 0.15, 0.1]], dtype=torch.float64), 0.6),
    (torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.7, 0.05, 0.15, 0.1]], dtype=torch.float64), 0.8),
    (torch.tensor([[0.25, 0.5, 0.25], [0.125, 0.125, 0.75]], dtype=torch.float64), 0.5),
    (torch.tensor([[0.0625, 0.25, 0.5, 0.1875], [0.625, 0.125, 0.1875, 0.0625]], dtype=torch.float64), 0.75),
    (_like_a_conditional(4), 0.9),
    (_like_a_conditional(4, spread=4.0), 0.35),
    (torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.7, 0.05, 0.15, 0.1]], dtype=torch.float64), 1.0),
)


@exercise
def check_top_p(answer: Callable[[Tensor, float], Tensor]) -> str:
    """Checks a function that keeps only the most likely levels.

    Arguments:
        answer: takes probabilities `[N, levels]` and p in (0, 1]; returns them with all but the
            fewest most likely levels that together reach p set to 0, normalised.

    Example:
        >>> check_top_p(lambda probs, p: torch.where(probs >= p, probs, 0))
        ✗ Not yet. For p = 0.6 and row [0.1, 0.4, 0.2, 0.3] nothing is left: p bounds the *sum*.
    """
    results = []
    for probs, p in TOP_P_CASES:
        given = probs.clone()
        results.append(_probabilities(ask(answer, given, p), probs))
        if not torch.equal(given, probs):
            raise Mistake("Your function changed the probabilities it was given: work on a copy.")
    for (probs, p), result in zip(TOP_P_CASES, results, strict=True):
        if not _same(result, _top_p(probs, p)):
            raise Mistake(_what_was_kept(results, probs, p, result))
    return "The fewest levels that reach p, each where it was, and p = 1 changes nothing."


def _what_was_kept(results: list[Tensor], probs: Tensor, p: float, result: Tensor) -> str:
    """Says what is wrong with a result, the first one that is."""
    right = _top_p(probs, p)
    empty = (result.nan_to_num() == 0).all(-1)
    if empty.any():
        which = "p bounds the *sum*."
        if probs[empty][0].max() > p:
            which = "the most likely level is kept even when it alone exceeds p."
        return f"For p = {p} and row {_row(probs[empty][0])} nothing is left: {which}"
    for words, wrong in TOP_P_MISTAKES.items():
        if all(_same(found, wrong(*case)) for case, found in zip(TOP_P_CASES, results, strict=True)):
            return words
    for fixed in torch.linspace(0.05, 1, 20).tolist():
        if all(_same(found, _top_p(q, fixed)) for (q, _), found in zip(TOP_P_CASES, results, strict=True)):
            return f"Whatever p is asked for, you keep what reaches {fixed:.2g} or so: use the argument."
    counts = torch.cat([_count(found[:, :4]) for found in results[:4]])
    if (counts == counts[0]).all() and _same(result, _most_likely(probs, int(counts[0]))):
        return f"You keep {int(counts[0])} levels in every row. That is top-k; how many top-p keeps depends on the row."
    if _same(result, _top_p(probs, p, torch.le)):
        row = probs[(result - right).abs().amax(-1) > 1e-6][0]
        return (
            f"For p = {p} and row {_row(row)} you kept one level too many: the levels before it already reach p "
            "exactly, so the sum before a level that is kept lies below p (<, not <=)."
        )
    if p == 1:
        return "With p = 1 every level must stay."
    sums = result.sum(-1)
    if not torch.allclose(sums, torch.ones_like(sums)):
        return f"The rows sum to {_row(sums)}: divide by what is left."
    if _same(result, _normalised(right.sort(-1, descending=True)[0])):
        return (
            "The right probabilities at the wrong levels: they are still in sorted order; put each back where it "
            "came from (scatter)."
        )
    if _same(result.sort(-1)[0], right.sort(-1)[0]):
        return (
            "The right probabilities at the wrong levels: after sorting, position k holds level[k], so write to "
            "there (scatter), do not read from there (gather)."
        )
    row = int((result - right).abs().amax(-1).argmax())
    kept, needed = int(_count(result)[row]), int(_count(right)[row])
    case = f"For p = {p} and row {_row(probs[row])}" if probs.shape[1] <= 8 else f"For p = {p} and a row of 256 levels"
    if _same(result[row : row + 1], _most_likely(probs[row : row + 1], kept)):
        reached = float(probs[row].double().topk(kept)[0].sum())
        if kept < needed:
            return (
                f"{case} you kept only {kept}, which sum to {reached:.3g}: the level that crosses p belongs to the "
                "set, or it would not reach p."
            )
        fewer = float(probs[row].double().topk(kept - 1)[0].sum())
        many = "one level" if kept == needed + 1 else f"{kept - needed} levels"
        return f"{case} you kept {many} too many: fewer, which sum to {fewer:.3g}, already reach p."
    return str(_different(f"For p = {p}", probs, result, right))


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
    model: Callable[[Tensor], Tensor],
    canvas: Tensor,
    known: Tensor,
    uniform: Tensor,
    *,
    places: Sequence[tuple[int, int]] | None = None,
    look: Callable[[int, int], tuple[int, int]] = lambda row, column: (row, column),
    probabilities: Callable[[Tensor], Tensor] = lambda logits: logits.softmax(1),
    take: Callable[[Tensor, Tensor], Tensor] = draw,
    once: bool = False,
) -> Tensor:
    """Keeps what is known on the canvas and draws the rest; with the mistakes that learners make.

    Arguments:
        places: the order of drawing; default: raster order.
        look: where the logits for a pixel are read.
        once: ask the model only once.
    """
    canvas = canvas.clone()
    logits = model(canvas)
    for row, column in places or _raster(known):
        if not known[row, column]:
            logits = logits if once else model(canvas)
            at = look(row, column)
            probs = probabilities(logits)[:, :, at[0], at[1]]
            canvas[:, 0, row, column] = take(probs, uniform[:, 0, row, column]).to(canvas)
    return canvas


def _comes_about(result: Tensor, mistaken: Callable[[Tensor], Tensor], canvas: Tensor) -> bool:
    try:
        return torch.equal(result, mistaken(canvas))
    except ValueError:  # no probabilities: the learner would have been told
        return False


def _raster(known: Tensor) -> list[tuple[int, int]]:
    return [(row, column) for row in range(known.shape[0]) for column in range(known.shape[1])]


ONE_LOOK = (
    "All unknown pixels were drawn from one look at the canvas: no pixel sees those drawn before it. Is the model "
    "asked only once, or is the last pixel drawn first?"
)


def _mistaken_completions(model: PixelCNN, given: Tensor, known: Tensor, uniform: Tensor) -> dict[str, Callable]:
    """What to say of a completion, and how it comes about from a canvas."""

    def with_numbers(numbers: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda canvas: _completed(model, canvas, known, numbers)

    def how(**mistake) -> Callable[[Tensor], Tensor]:
        return lambda canvas: _completed(mistake.pop("model", model), canvas, known, uniform, **mistake)

    def scaled(scale: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda canvas: _completed(lambda x: model(scale(x.double())), canvas, known, uniform)

    in_turn = torch.zeros_like(uniform)
    in_turn[:, :, ~known] = uniform.flatten(1)[:, None, : int((~known).sum())]
    raster = _raster(known)
    twice = "You scale the image, and the model scales it again: it wants the integers on the canvas."
    return {
        ONE_LOOK: how(once=True),
        "You paint column by column; the model's order is row by row.": how(
            places=sorted(raster, key=lambda at: at[::-1])
        ),
        "This is the argmax at every pixel: turn the numbers in `uniform` into levels instead.": how(
            take=lambda probs, u: probs.argmax(1)
        ),
        "Row and column are exchanged where you read the logits: they are [N, levels, row, column].": how(
            look=lambda row, column: (column, row)
        ),
        "You read the logits at the pixel to the left: they are at the pixel that you draw.": how(
            look=lambda row, column: (row, max(column - 1, 0))
        ),
        "Row and column are exchanged where you read `uniform`: it is [N, 1, row, column].": with_numbers(uniform.mT),
        "You take the numbers of `uniform` in turn, beginning with the first: pixel (row, column) takes the one that "
        "stands there.": with_numbers(in_turn),
        "All images take the random numbers of the first one: each has its own.": with_numbers(
            uniform[:1].expand_as(uniform)
        ),
        "Each pixel takes the random number of its left neighbour.": with_numbers(uniform.roll(1, -1)),
        "Each pixel takes the random number of its right neighbour.": with_numbers(uniform.roll(-1, -1)),
        "You draw with 1 - u: take the numbers as they are.": with_numbers(1 - uniform),
        "Your `probs` are logits: draw needs probabilities, so a softmax over the levels is missing.": how(
            probabilities=lambda logits: logits
        ),
        "The softmax runs over the images; the levels are on axis 1.": how(
            probabilities=lambda logits: logits.softmax(0)
        ),
        "The softmax was applied twice.": how(probabilities=lambda logits: logits.softmax(1).softmax(1)),
        twice: scaled(lambda x: x / 255),
        f"{twice} ": scaled(lambda x: x / 127.5 - 1),
        f"{twice}  ": scaled(lambda x: x / (model.levels - 1)),
        f"{twice}   ": scaled(lambda x: 2 * x / (model.levels - 1) - 1),
    }


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
        try:
            result = ask(answer, model, given, known, uniform)
        except ValueError as error:
            if "probabilities" in str(error):  # draw's own words
                raise Mistake(
                    "What you give to draw are no probabilities: they sum to 0 or less, or are NaN. Are they logits, "
                    "or logarithms? A softmax over the levels, axis 1, makes probabilities of logits."
                ) from None
            raise
        again = ask(answer, model, given, known, uniform) if torch.equal(given, before) else None
    if again is None:
        raise Mistake("Your function painted over `given` itself: start from a copy.")
    if not isinstance(result, Tensor) or result.shape != given.shape:
        shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise Mistake(f"The answer is {shape}: return images {tuple(given.shape)}.")
    if result.dtype != torch.uint8:
        raise Mistake(f"The answer has type {result.dtype}: images are integers, return torch.uint8.")
    right = _completed(model, given * known, known, uniform)
    if not torch.equal(result, right):
        if not torch.equal(result, again):
            raise Mistake("Two calls with the same numbers differ: use `uniform` in place of torch.multinomial.")
        raise Mistake(_what_was_drawn(result, right, model, given, known, uniform))
    return "Known pixels kept, unknown ones drawn in the light of all before them."


def _what_was_drawn(
    result: Tensor, right: Tensor, model: PixelCNN, given: Tensor, known: Tensor, uniform: Tensor
) -> str:
    nothing, black, start = torch.zeros_like(known), torch.zeros_like(given), given * known
    free = _completed(model, black, nothing, uniform)
    blind = torch.where(known, black, _completed(model, black, known, uniform))
    pasted = (
        "You pasted the known pixels on afterwards: what was drawn never saw them. They must be on the canvas before "
        "the first draw."
    )
    plainly = {
        "The unknown pixels are those of `given`: nothing was drawn.": given,
        "The unknown pixels are all 0: write what you draw onto the canvas.": start,
        "These are free samples: known pixels are painted over. Skip those that are known.": free,
        pasted: torch.where(known, given, free),
        f"{pasted} ": torch.where(known, given, blind),
        "The known pixels are 0: they were never copied from `given` onto the canvas.": blind,
        "Every image is the completion of the first one.": right[:1].expand_as(right),
        "You drew the known pixels and kept the others: `known` says which to keep.": _completed(
            model, given, ~known, uniform
        ),
    }
    for words, wrong in plainly.items():
        if torch.equal(result, wrong):
            return words.strip()
    if not result[:, :, known].any():
        return "The known pixels are 0: they were never copied from `given` onto the canvas."
    if not torch.equal(result[:, :, known], given[:, :, known]):
        return "Known pixels have changed: skip them in the loop."
    for words, mistaken in _mistaken_completions(model, given, known, uniform).items():
        if any(_comes_about(result, mistaken, canvas) for canvas in (start, given)):
            return words.strip()
    left = (result == given).all(0)[0] & ~known
    if left.any() and torch.equal(result[:, :, ~left], right[:, :, ~left]):
        row, column = left.nonzero()[0].tolist()
        return f"Pixel ({row}, {column}) is unknown, and you left what `given` has there: go on to the last one."
    if torch.equal(left, (known[:1] & ~known)):
        return "You take the first row of `known` for every row: ask it for the pixel, known[row, column]."
    at = (result != right).any(0)[0].nonzero()[0].tolist()
    return (
        f"The known pixels are right; the first one drawn that differs is row {at[0]}, column {at[1]}. Draw it with "
        "uniform[:, 0, row, column] from the softmax of the logits at that place."
    )


# -- the sampler ----------------------------------------------------------------------------------


class _Chooser:
    """Takes levels by fixed numbers, one `[N]` a call, and remembers what it was given."""

    def __init__(self, uniform: Tensor):
        self.uniform, self.given = uniform.flatten(1).T, []

    def __call__(self, probs: Tensor) -> Tensor:
        if not isinstance(probs, Tensor) or probs.dim() != 2 or probs.shape[0] != self.uniform.shape[1]:
            shape = tuple(probs.shape) if isinstance(probs, Tensor) else type(probs).__name__
            raise Mistake(f"choose got {shape}: give it the probabilities of one pixel in all images, [N, levels].")
        self.given.append(probs.detach().clone())
        below = probs.double().cumsum(1) <= self.uniform[(len(self.given) - 1) % len(self.uniform), :, None]
        return below.sum(1).clamp(max=probs.shape[1] - 1)


@exercise
def check_paint(answer: Callable[[PixelCNN, Tensor, Callable[[Tensor], Tensor]], Tensor]) -> str:
    """Checks the plain sampler: predict, choose, write, pixel by pixel.

    Arguments:
        answer: takes a model, a canvas of integers uint8 `[N, 1, H, W]`, and `choose`, which turns probabilities
            `[N, levels]` into levels `[N]`; returns the painted images uint8 `[N, 1, H, W]`.

    Example:
        >>> check_paint(lambda model, canvas, choose: canvas)
        ✗ Not yet. choose was never called: it decides on the level of each pixel.
    """
    model = _vivid_model()
    generator = torch.Generator().manual_seed(2)
    canvas = torch.randint(4, (4, 1, 5, 6), generator=generator, dtype=torch.uint8)
    uniform = torch.rand(4, 1, 5, 6, generator=generator, dtype=torch.float64)
    before, choose = canvas.clone(), _Chooser(uniform)
    with torch.random.fork_rng(devices=[]):
        result = ask(answer, model, canvas, choose)
    if not torch.equal(canvas, before):
        raise Mistake("Your function painted over the canvas that it was given: start from a copy.")
    if not isinstance(result, Tensor) or result.shape != canvas.shape:
        shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise Mistake(f"The answer is {shape}: return images {tuple(canvas.shape)}.")
    _what_choose_was_given(choose.given)
    if result.dtype != torch.uint8:
        raise Mistake(f"The answer has type {result.dtype}: the canvas is torch.uint8, return that.")
    nothing = torch.zeros(5, 6, dtype=torch.bool)
    right = _completed(model, canvas, nothing, uniform, take=_inverse)
    if torch.equal(result, right) and all(
        torch.allclose(given, probs) for given, probs in zip(choose.given, _conditionals(model, right), strict=True)
    ):
        return "Predict, choose, write: 30 pixels, each in the light of all before it."
    raise Mistake(_how_it_was_painted(result, choose.given, model, canvas, uniform))


def _inverse(probs: Tensor, u: Tensor) -> Tensor:
    return (probs.double().cumsum(1) <= u[:, None]).sum(1).clamp(max=probs.shape[1] - 1)


@torch.inference_mode()
def _conditionals(model: PixelCNN, images: Tensor) -> list[Tensor]:
    return list(model(images).softmax(1).flatten(2).movedim(2, 0))


def _what_choose_was_given(given: list[Tensor]) -> None:
    if not given:
        raise Mistake("choose was never called: it decides on the level of each pixel.")
    if len(given) == 60:
        raise Mistake("choose was called twice for each pixel: once, and write what it says.")
    if len(given) != 30:
        raise Mistake(f"An image of 5 × 6 pixels needs 30 choices; choose was called {len(given)} times.")
    for probs in given:
        if probs.shape[1] != 4:
            raise Mistake(f"choose got {tuple(probs.shape)} for 4 images and 4 levels: give it [N, levels].")
        if (probs < 0).any():
            raise Mistake("choose got negative numbers: are they logits, or logarithms? It wants probabilities.")
    if not all(torch.allclose(probs.sum(1), torch.ones(()).to(probs), atol=1e-4) for probs in given):
        raise Mistake("The numbers that choose gets do not sum to 1 over the levels: the softmax runs over axis 1.")


def _how_it_was_painted(result: Tensor, given: list[Tensor], model: PixelCNN, canvas: Tensor, uniform: Tensor) -> str:
    nothing = torch.zeros(canvas.shape[2:], dtype=torch.bool)
    raster = _raster(nothing)
    by_column = sorted(raster, key=lambda at: at[::-1])
    snake = [(row, column if row % 2 == 0 else 5 - column) for row, column in raster]
    if torch.equal(result, canvas):
        return "The canvas is as it was: write the levels that choose gives."
    orders = {
        "You paint column by column; the model's order is row by row.": by_column,
        ONE_LOOK: raster[::-1],
        "Every second row is painted from right to left: each begins on the left.": snake,
    }
    for words, places in orders.items():
        numbers = torch.empty_like(uniform)
        for (row, column), u in zip(places, uniform.flatten(2).movedim(2, 0), strict=True):
            numbers[:, :, row, column] = u
        for blank in (canvas, torch.zeros_like(canvas)):
            if torch.equal(result, _completed(model, blank, nothing, numbers, places=places, take=_inverse)):
                return words
    with torch.inference_mode():
        first = model(canvas).softmax(1).flatten(2).movedim(2, 0)
    if all(torch.allclose(a, b) for a, b in zip(given, first, strict=True)):
        return ONE_LOOK
    mistakes: dict[str, dict] = {
        "You read the logits at the pixel to the left: they are at the pixel that you paint.": {
            "look": lambda row, column: (row, max(column - 1, 0))
        },
        "You read the logits at the pixel to the right: they are at the pixel that you paint.": {
            "look": lambda row, column: (row, min(column + 1, 5))
        },
        "Row and column are exchanged where you read the logits: they are [N, levels, row, column].": {
            "look": lambda row, column: (column % 5, row)
        },
        "The softmax runs over the images: the levels are on axis 1.": {"probabilities": lambda z: z.softmax(0)},
        "The softmax was applied twice.": {"probabilities": lambda z: z.softmax(1).softmax(1)},
    }
    for words, mistake in mistakes.items():
        if torch.equal(result, _completed(model, canvas, nothing, uniform, take=_inverse, **mistake)):
            return words
    for scale in (lambda x: x / 255, lambda x: x / 127.5 - 1, lambda x: x / 3, lambda x: x / 1.5 - 1):
        scaled = _completed(lambda x, scale=scale: model(scale(x.double())), canvas, nothing, uniform, take=_inverse)
        if torch.equal(result, scaled):
            return "You scale the canvas, and the model scales it again: it wants the integers."
    conditionals = _conditionals(model, result)
    if all(torch.allclose(a, b) for a, b in zip(given, conditionals, strict=True)):
        return "The probabilities are right, but what stands on the canvas is not what choose said."
    wrong = [k for k, (a, b) in enumerate(zip(given, conditionals, strict=True)) if not torch.allclose(a, b)]
    row, column = divmod(wrong[0], canvas.shape[3])
    return (
        f"At the choice for row {row}, column {column} the probabilities are not those of your image there, given all "
        "pixels before: what does the model see, where do you read its answer, and is each level written in its place?"
    )


# -- what comes later -----------------------------------------------------------------------------


@exercise
def check_fill(answer: Callable[[PixelCNN, Tensor, Tensor, int], Tensor]) -> str:
    """Checks draws of the unknown pixels given *any* known ones, in a world of 81 pictures.

    Arguments:
        answer: takes a model with 3 levels, one image uint8 `[1, 1, 2, 2]`, which pixels are known, bool `[2, 2]`, and
            a number of draws; returns as many images uint8 `[count, 1, 2, 2]`.

    Example:
        >>> check_fill(lambda model, given, known, count: given.expand(count, -1, -1, -1))
        ✗ Not yet. Every draw is the same image: the unknown pixels are to be drawn.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = PixelCNN(levels=3, hidden=16, blocks=1, image_size=2).eval()
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(2.5)
        world = torch.cartesian_prod(*[torch.arange(3)] * 4).view(81, 1, 2, 2).to(torch.uint8)
        with torch.inference_mode():
            p = model.log_prob(world).double().exp()
        for known, picture in (([0, 0, 1, 1], 47), ([0, 1, 0, 1], 31), ([0, 0, 0, 1], 14)):
            known = torch.tensor(known).bool().view(2, 2)
            given = world[picture : picture + 1]
            draws = ask(answer, model, given.clone(), known.clone(), 3000)
            _is_the_conditional(draws, given, known, world, p, model)
    return "Exact draws, although what is known comes later. In a world of 81 pictures; how far does your way carry?"


def _is_the_conditional(draws: Tensor, given: Tensor, known: Tensor, world: Tensor, p: Tensor, model: PixelCNN) -> None:
    if not isinstance(draws, Tensor) or draws.shape != (3000, 1, 2, 2):
        shape = tuple(draws.shape) if isinstance(draws, Tensor) else type(draws).__name__
        raise Mistake(f"Asked for 3,000 draws you return {shape}: return images (3000, 1, 2, 2).")
    if draws.dtype != torch.uint8:
        raise Mistake(f"The draws are {draws.dtype}: images are torch.uint8.")
    if (draws != given)[:, :, known].any():
        raise Mistake("A known pixel has another level than the one that is given.")
    if len(draws.unique(dim=0)) == 1:
        raise Mistake("Every draw is the same image: the unknown pixels are to be drawn.")
    number = (draws.flatten(1).long() * torch.tensor([27, 9, 3, 1])).sum(1)
    counts = number.bincount(minlength=81).double()
    fits = (world == given)[:, :, known].flatten(1).all(1)
    true = torch.where(fits, p, 0) / p[fits].sum()
    if _agree(counts, true):
        return
    if _agree(counts, _clamped(model, given, known, world)):
        raise Mistake(
            "The unknown pixels are drawn as if what comes later were not known: clamped, as in the last section. The "
            "later pixels must have a say."
        )
    if _agree(counts, fits / fits.sum()):
        raise Mistake("All pictures that fit are equally frequent: they are not equally probable.")
    for power in (0.5, 2.0):
        if _agree(counts, true**power / (true**power).sum()):
            raise Mistake(
                f"The draws follow the conditional to the power {power:g}: leave the probabilities as they are."
            )
    if _agree(counts, _marginal(p, world, known, given)):
        raise Mistake("These are free draws with the known pixels pasted on: what is known has no say in the others.")
    worst = int((counts / 3000 - true).abs().argmax())
    raise Mistake(
        f"{world[worst, 0].tolist()} came {int(counts[worst])} times in 3,000; with what is known it has probability "
        f"{float(true[worst]):.3f}, which makes {3000 * float(true[worst]):.0f}."
    )


def _agree(counts: Tensor, p: Tensor) -> bool:
    """Whether counts `[81]` are a draw from p: Pearson's statistic, far beyond chance at 8 deviations."""
    if counts[p < 1e-12].any():
        return False
    expected = counts.sum() * p
    enough = expected >= 5
    statistic = float(((counts - expected) ** 2 / expected)[enough].sum())
    freedom = max(int(enough.sum()) - 1, 1)
    rare = abs(float((counts - expected)[~enough].sum())) < 5 + 6 * float(expected[~enough].sum()) ** 0.5
    return rare and statistic < freedom + 8 * (2 * freedom) ** 0.5


@torch.inference_mode()
def _clamped(model: PixelCNN, given: Tensor, known: Tensor, world: Tensor) -> Tensor:
    """The distribution of draws in raster order with known pixels left alone, `[81]`."""
    log_p = model(world).log_softmax(1).gather(1, world.long()).double()
    fits = (world == given)[:, :, known].flatten(1).all(1)
    return torch.where(fits, log_p[:, :, ~known].flatten(1).sum(1).exp(), 0)


def _marginal(p: Tensor, world: Tensor, known: Tensor, given: Tensor) -> Tensor:
    """The unknown pixels' distribution whatever the known ones are, at the pictures that fit, `[81]`."""
    fits = (world == given)[:, :, known].flatten(1).all(1)
    same = (world[:, None] == world[None])[..., ~known].flatten(2).all(2)  # [81, 81]
    return torch.where(fits, (same.double() * p).sum(1), 0)
