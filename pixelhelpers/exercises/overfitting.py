"""Checks of notebook 07: early stopping, a distance that forgives small shifts, and a diagnosis from numbers."""

import itertools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .verdict import Mistake, Unsolved, ask, exercise

# -- early stopping -------------------------------------------------------------------------------

_SCORES = {  # validation scores, epoch 1 first; patience
    "a valley": ([4.0, 3.6, 3.4, 3.3, 3.35, 3.4, 3.5, 3.6, 3.7], 2),
    "a bump before a deeper valley": ([4.0, 3.5, 3.3, 3.4, 3.45, 3.5, 3.2, 3.1], 3),
    "a bump that patience outlasts": ([4.0, 3.5, 3.3, 3.4, 3.45, 3.2, 3.1, 3.3, 3.4, 3.5, 3.6], 3),
    "no end in sight": ([4.0, 3.8, 3.7, 3.65, 3.6], 3),
    "a zigzag above the best": ([3.5, 3.3, 3.4, 3.35, 3.4, 3.5, 3.6], 3),
    "a tie": ([4.0, 3.5, 3.5, 3.5, 3.4, 3.3], 2),
    "worse from the start": ([3.0, 3.1, 3.2, 3.3, 3.4], 1),
}


@exercise
def check_early_stopping(answer: Callable[[list[float], int], tuple[int, int]]) -> str:
    """Checks a function that says which epoch's weights early stopping keeps, and when it stops.

    Arguments:
        answer: takes the validation scores (bits per dimension, epoch 1 first) and the patience; gives
            the epoch whose weights are kept and the last epoch that is trained, both counted from 1.

    Example:
        >>> check_early_stopping(lambda scores, patience: (scores.index(min(scores)) + 1, len(scores)))
        ✗ Not yet. Nothing is ever stopped: you look at all scores, but those after the stop do not exist.
    """
    given = {}
    for name, (scores, patience) in _SCORES.items():
        result = ask(answer, list(scores), patience)
        try:
            given[name] = tuple(int(epoch) for epoch in result)
        except TypeError:
            raise Mistake(f"You return {result!r}: return two epochs, (kept, stopped).") from None
        if len(given[name]) != 2:
            raise Mistake(f"You return {len(given[name])} numbers: return two epochs, (kept, stopped).")
    right = {name: early_stop(*case) for name, case in _SCORES.items()}
    if given == right:
        return "It keeps the best epoch, waits out a bump, and never looks at what comes after the stop."
    for diagnosis, wrong in _mistaken_stops().items():
        if given == {name: wrong(*case) for name, case in _SCORES.items()}:
            raise Mistake(diagnosis)
    name = next(name for name in given if given[name] != right[name])
    scores, patience = _SCORES[name]
    raise Mistake(
        f"{name.capitalize()}, {scores} with patience {patience}: you say (kept, stopped) = {given[name]}. Go through "
        "it by hand: after each epoch, which one is the best so far, and how long ago was it?"
    )


def early_stop(scores: list[float], patience: int) -> tuple[int, int]:
    """Gives the epoch whose weights `fit` keeps, and the last one that it trains, counted from 1.

    Example:
        >>> early_stop([3.0, 2.0, 2.5, 2.6, 1.0], patience=2)
        (2, 4)
    """
    best = 0
    for epoch, score in enumerate(scores):
        if score < scores[best]:
            best = epoch
        if epoch - best >= patience:
            return best + 1, epoch + 1
    return best + 1, len(scores)


def _mistaken_stops() -> dict[str, Callable[[list[float], int], tuple[int, int]]]:
    def counted_from_0(scores, patience):
        kept, stopped = early_stop(scores, patience)
        return kept - 1, stopped - 1

    def rises(scores, patience, worse=operator.gt):  # as many rises in a row as the patience
        best, run = 0, 0
        for epoch in range(1, len(scores)):
            best = epoch if scores[epoch] < scores[best] else best
            run = run + 1 if worse(scores[epoch], scores[epoch - 1]) else 0
            if run >= patience:
                return best + 1, epoch + 1
        return best + 1, len(scores)

    def all_failures(scores, patience):  # epochs without a better score, not only the latest ones
        best, failures = 0, 0
        for epoch in range(1, len(scores)):
            best, failures = (epoch, failures) if scores[epoch] < scores[best] else (best, failures + 1)
            if failures >= patience:
                return best + 1, epoch + 1
        return best + 1, len(scores)

    def ties_count(scores, patience):
        best = 0
        for epoch, score in enumerate(scores):
            best = epoch if score <= scores[best] else best
            if epoch - best >= patience:
                return best + 1, epoch + 1
        return best + 1, len(scores)

    def maximum(scores, patience):
        return early_stop([-score for score in scores], patience)

    def too_patient(scores, patience):
        return early_stop(scores, patience)[0], early_stop(scores, patience)[1] + 1

    def beyond_the_end(scores, patience):
        kept, _ = early_stop(scores, patience)
        return kept, kept + patience

    def rises_or_stays(scores, patience):
        return rises(scores, patience, lambda later, earlier: later >= earlier)

    def early(scores, patience):
        best = 0
        for epoch, score in enumerate(scores):
            best = epoch if score < scores[best] else best
            if epoch - best >= patience - 1:
                return best + 1, epoch + 1
        return best + 1, len(scores)

    return {
        "Nothing is ever stopped: you look at all scores, but those after the stop do not exist.": lambda s, p: (
            (s.index(min(s)) + 1, len(s))
        ),
        "You stop at the right time, but keep the last weights: keep those of the best epoch.": lambda s, p: (
            (early_stop(s, p)[1],) * 2
        ),
        "You stop at the right time, but the best of *all* scores may lie after the stop, where nothing was "
        "trained.": lambda s, p: (s.index(min(s)) + 1, early_stop(s, p)[1]),
        "You stop at the best epoch: nobody knows that it was the best before patience has run out.": lambda s, p: (
            (early_stop(s, p)[0],) * 2
        ),
        "Epochs are counted from 1 here, indices from 0: add 1.": counted_from_0,
        "Bits per dimension are better when they are lower: you look for the highest.": maximum,
        "You stop one epoch late: after `patience` epochs without a better score there is no further one.": (
            lambda s, p: early_stop(s, p + 1)
        ),
        "You stop one epoch early: `patience` epochs without a better score are allowed to pass.": (
            lambda s, p: early_stop(s, max(1, p - 1))
        ),
        "You stop one epoch early: `patience` epochs without a better score are allowed to pass. (With patience 1 you "
        "stop at once.)": early,
        "You say one epoch too many, even where the scores end: it is the last one that *was* trained.": too_patient,
        "Kept + patience may be later than the last score: training also ends when there are no more epochs.": (
            beyond_the_end
        ),
        "You count epochs that are no better than the one before: what counts is how long the *best* score has "
        "not been beaten.": rises_or_stays,
        "You keep the right epoch, but train all of them: after `patience` epochs without a better score comes no "
        "other.": lambda s, p: (early_stop(s, p)[0], len(s)),
        "The epoch that is kept is counted from 0, the other from 1.": lambda s, p: (
            (early_stop(s, p)[0] - 1, early_stop(s, p)[1])
        ),
        "You take patience to be 3, whatever you are given.": lambda s, p: early_stop(s, 3),
        "You return the best *score*: return the epoch it belongs to.": lambda s, p: (
            (int(s[early_stop(s, p)[0] - 1]), early_stop(s, p)[1])
        ),
        "You count rises from one epoch to the next: what counts is how long the *best* score has not been "
        "beaten; a score may fall and still be worse than the best.": rises,
        "You count all epochs without a better score: a new best score starts the count again.": all_failures,
        "An equal score is no better one: use <, so that a tie neither restarts the count nor changes the epoch "
        "that is kept.": ties_count,
        "The two are in the wrong order: return the epoch that is kept first, then the last that is trained.": (
            lambda s, p: early_stop(s, p)[::-1]
        ),
    }


# -- a distance that forgives small shifts -----------------------------------------------------------


@exercise
def check_shifted_distance(answer: Callable[[Tensor, Tensor, int], float]) -> str:
    """Checks a distance between two images, smallest over small shifts.

    Arguments:
        answer: takes two images `[1, H, W]`, uint8, and the largest shift; gives the root mean square
            difference over the overlap, the smallest of all shifts by up to that many pixels, down or up
            and right or left.

    Example:
        >>> check_shifted_distance(lambda a, b, shift: (a.float() - b.float()).square().mean().sqrt())
        ✗ Not yet. That is the plain distance: no shift is tried, and a copy moved by one pixel seems far away.
    """
    pairs = _pairs()
    given = []
    for a, b, shift in pairs:
        try:
            result = ask(answer, a.clone(), b.clone(), shift)
        except ValueError:
            if shift:
                raise
            raise Mistake("With shift 0, too, there is a place to try: are both ends included in your loops?") from None
        try:
            given.append(float(result))
        except (TypeError, ValueError):
            raise Mistake(f"You return {type(result).__name__}: return one number.") from None
    if not all(map(math.isfinite, given)):
        raise Mistake("A distance is NaN or infinite: is an overlap empty, or the root of a negative number taken?")
    right = [shifted_distance(*pair) for pair in pairs]
    if _equal(given, right):
        return "Copies have distance 0 wherever they lie, and other images keep theirs."
    for diagnosis, wrong in _mistaken_distances().items():
        if _equal(given, [wrong(*pair) for pair in pairs]):
            raise Mistake(diagnosis)
    k = next(k for k in range(len(pairs)) if not _equal(given[k : k + 1], right[k : k + 1]))
    shift = pairs[k][2]
    raise Mistake(f"For one pair of images and shifts up to {shift} you get {given[k]:.3f} instead of {right[k]:.3f}.")


def shifted_distance(a: Tensor, b: Tensor, shift: int) -> float:
    """The distance of `nearest_neighbours`, for one pair of images `[C, H, W]`, the plain way.

    Example:
        >>> a = torch.randint(256, (1, 6, 6), dtype=torch.uint8)
        >>> shifted_distance(a, a.roll(1, 2), shift=1)
        0.0
    """
    steps = itertools.product(range(-shift, shift + 1), repeat=2)
    return min(float((x - y).square().mean().sqrt()) for x, y in (_overlap(a, b, *step) for step in steps))


def _overlap(a: Tensor, b: Tensor, down: int, right: int) -> tuple[Tensor, Tensor]:
    height, width = a.shape[-2:]
    x = a.double()[..., max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    y = b.double()[..., max(0, down) : height - max(0, -down), max(0, right) : width - max(0, -right)]
    return x, y


def _equal(given: list[float], right: list[float]) -> bool:
    return all(math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-3) for a, b in zip(given, right, strict=True))


def _pairs() -> list[tuple[Tensor, Tensor, int]]:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randint(256, (2, 1, 9, 8), dtype=torch.uint8, generator=generator)
    pairs = [(a, a, 0), (a, b, 0), (a, b, 1), (a, b, 2)]
    shifts = [(*step, 1) for step in itertools.product((-1, 0, 1), repeat=2)]
    for down, right, shift in [*shifts, (1, 1, 2), (2, 0, 2), (-2, -2, 2)]:
        moved = torch.randint(256, a.shape, dtype=torch.uint8, generator=generator)  # what came in from outside
        target, source = _overlap_views(moved, a, down, right)
        target.copy_(source)
        pairs.append((a, moved, shift))
    return pairs


def _overlap_views(moved: Tensor, a: Tensor, down: int, right: int) -> tuple[Tensor, Tensor]:
    height, width = a.shape[-2:]
    target = moved[..., max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
    source = a[..., max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    return target, source


def _mistaken_distances() -> dict[str, Callable[[Tensor, Tensor, int], float]]:
    def over(steps, compare):
        def distance(a, b, shift):
            return min(compare(a, b, *step) for step in steps(shift))

        return distance

    def both(shift):
        return list(itertools.product(range(-shift, shift + 1), repeat=2))

    def forward(shift):
        return list(itertools.product(range(shift + 1), repeat=2))

    def short(shift):  # range(-shift, shift) ends one too early
        return list(itertools.product(range(-shift, max(shift, 1)), repeat=2))

    def cross(shift):
        return [(step, 0) for step in range(-shift, shift + 1)] + [(0, step) for step in range(-shift, shift + 1)]

    def rows(shift):
        return [(step, 0) for step in range(-shift, shift + 1)]

    def columns(shift):
        return [(0, step) for step in range(-shift, shift + 1)]

    def root(x, y):
        return float((x - y).square().mean().sqrt())

    def overlap(a, b, down, right):
        return root(*_overlap(a, b, down, right))

    def wrapped(a, b, down, right):
        return root(a.double().roll((down, right), (-2, -1)), b.double())

    def filled(a, b, down, right):
        moved = torch.zeros_like(a)
        target, source = _overlap_views(moved, a, down, right)
        target.copy_(source)
        return root(moved.double(), b.double())

    def whole_size(a, b, down, right):  # overlap, divided by the size of the whole image
        x, y = _overlap(a, b, down, right)
        return float(((x - y).square().sum() / a.numel()).sqrt())

    def summed(a, b, down, right):
        x, y = _overlap(a, b, down, right)
        return float((x - y).square().sum().sqrt())

    def centre(fixed, moving, down, right, shift):
        height, width = fixed.shape[-2:]
        window = moving[..., shift + down : height - shift + down, shift + right : width - shift + right]
        return root(fixed[..., shift : height - shift, shift : width - shift].double(), window.double())

    def centre_of_a(a, b, shift):
        return min(centre(a, b, *step, shift) for step in both(shift))

    def squared(a, b, down, right):
        return overlap(a, b, down, right) ** 2

    def absolute(a, b, down, right):
        x, y = _overlap(a, b, down, right)
        return float((x - y).abs().mean())

    def bytewise(a, b, down, right):
        x, y = (part.to(torch.uint8) for part in _overlap(a, b, down, right))
        return float((x - y).double().square().mean().sqrt())

    def bytewise_squares(a, b, down, right):
        x, y = (part.to(torch.uint8) for part in _overlap(a, b, down, right))
        return float((x - y).square().double().mean().sqrt())

    def deviation(a, b, down, right):
        x, y = _overlap(a, b, down, right)
        return float((x - y).std())

    def mean_alone(a, b, down, right):
        x, y = _overlap(a, b, down, right)
        return abs(float((x - y).mean()))

    def largest(a, b, shift):
        return max(overlap(a, b, *step) for step in both(shift))

    def average(a, b, shift):
        return sum(overlap(a, b, *step) for step in both(shift)) / len(both(shift))

    overflow = "uint8 has no negative numbers, so 3 - 5 is 254: convert to float before you subtract."
    return {
        "That is the plain distance: no shift is tried, and a copy moved by one pixel seems far away.": (
            lambda a, b, shift: overlap(a, b, 0, 0)
        ),
        "torch.roll wraps around: what leaves at one side enters at the other. Compare the overlap only.": over(
            both, wrapped
        ),
        "Zeros at the border are compared too, so a shifted copy of an image that reaches it has no distance 0: "
        "compare the overlap only.": over(both, filled),
        "You divide by the number of values of the whole image: the fewer overlap, the smaller this gets. "
        "Divide by the number of values that overlap.": over(both, whole_size),
        "You compare the same centre of the first image for every shift: use all that overlaps.": centre_of_a,
        "You compare the same centre of the second image for every shift: use all that overlaps.": (
            lambda a, b, shift: centre_of_a(b, a, shift)
        ),
        "That is a sum: take the mean, or a smaller overlap looks nearer.": over(both, summed),
        "The root is missing: this is the mean *square*.": over(both, squared),
        "That is the mean absolute difference: square, mean, then the root.": over(both, absolute),
        overflow: over(both, bytewise),
        f"{overflow} (Squares overflow as well.)": over(both, bytewise_squares),
        "Only shifts down and to the right are tried: go from -shift to shift.": over(forward, overlap),
        "Only shifts up and to the left are tried: go from -shift to shift.": over(
            lambda shift: [(-down, -right) for down, right in forward(shift)], overlap
        ),
        "The largest shift is left out: range(-shift, shift) ends at shift - 1.": over(short, overlap),
        "Only straight shifts are tried: down and right can happen together.": over(cross, overlap),
        "Only shifts of rows are tried: columns shift as well.": over(rows, overlap),
        "Only shifts of columns are tried: rows shift as well.": over(columns, overlap),
        "Only steps on a diagonal are tried: down and right are two measures, each from -shift to shift.": over(
            lambda shift: [(step, step) for step in range(-shift, shift + 1)], overlap
        ),
        "Down and right together stay within `shift`: each of them may be as large.": over(
            lambda shift: [(down, right) for down, right in both(shift) if abs(down) + abs(right) <= shift], overlap
        ),
        "Only the largest shift is tried: smaller ones, and none at all, count as well.": over(
            lambda shift: [step for step in both(shift) if max(map(abs, step)) == shift], overlap
        ),
        "One shift too many is tried: `shift` is the largest.": lambda a, b, shift: over(both, overlap)(
            a, b, shift + 1
        ),
        "You try shifts by 1, whatever `shift` says.": lambda a, b, shift: over(both, overlap)(a, b, 1),
        "You try shifts by 2, whatever `shift` says.": lambda a, b, shift: over(both, overlap)(a, b, 2),
        "That is a share of 255: levels stay as they are.": lambda a, b, shift: over(both, overlap)(a, b, shift) / 255,
        "That is the standard deviation, which forgives a difference of brightness: take the mean square.": over(
            both, deviation
        ),
        "Differences of opposite sign cancel: square first, then take the mean.": over(both, mean_alone),
        "You take the largest distance over the shifts: take the smallest.": largest,
        "You average over the shifts: take the smallest.": average,
    }


# -- a diagnosis ----------------------------------------------------------------------------------

DIAGNOSES = ("healthy", "leak", "overfitting", "underfitting")
_RIGHT = {"A": "overfitting", "B": "healthy", "C": "leak", "D": "underfitting"}
_WHY = {
    ("A", "leak"): "A: a leak would be just as good on validation images, where the answers can be seen as well; "
    "here they cost far more than training images.",
    ("A", "underfitting"): "A: 2.1 on training images is no lack of learning. But what was learned does not carry "
    "over to others.",
    ("A", "healthy"): "A: validation images cost 1.4 bits per dimension more than training images.",
    ("B", "leak"): "B: check_causal passes, and 2.83 is no miracle on these images: published models reach it.",
    ("B", "overfitting"): "B: validation is *below* training, the wrong side for overfitting. The training score is "
    "a mean while learning, here with dropout, and validation is scored without it.",
    ("B", "underfitting"): "B: 2.83 is as good as published models are on these images.",
    ("C", "healthy"): "C: 1.3 on these images is too good to be true: the best published models need about 2.8. "
    "And the samples are blank.",
    ("C", "overfitting"): "C: training and validation agree to 0.01, so nothing was learned by heart.",
    ("C", "underfitting"): "C: the score is far better than any published one; that is not too little learning.",
    ("D", "healthy"): "D: 3.9 is what the left neighbour alone gives: there is much left to learn.",
    ("D", "overfitting"): "D: training and validation agree: nothing was learned by heart.",
    ("D", "leak"): "D: a leak makes the score too good; this one is poor.",
}


@exercise
def check_diagnosis(answer: Mapping[str, Any]) -> str:
    """Checks what is said of four training runs.

    Arguments:
        answer: for each of the runs "A" to "D" of the notebook one of "healthy", "leak", "overfitting"
            and "underfitting".

    Example:
        >>> check_diagnosis({"A": "overfitting", "B": "healthy", "C": "overfitting", "D": "underfitting"})
        ✗ Not yet. C: training and validation agree to 0.01, so nothing was learned by heart.
    """
    if not isinstance(answer, Mapping) or set(answer) != set(_RIGHT):
        raise Mistake('Give a dictionary with one word for each of the runs "A", "B", "C" and "D".')
    if any(word is None or word is ... for word in answer.values()):
        raise Unsolved
    answer = {run: word.strip().lower() if isinstance(word, str) else word for run, word in answer.items()}
    for run, word in answer.items():
        if word not in DIAGNOSES:
            raise Mistake(f"{run}: {word!r} is none of {', '.join(DIAGNOSES)}.")
    for run, right in _RIGHT.items():
        if answer[run] != right:
            raise Mistake(_WHY[run, answer[run]])
    return "The gap, the level and the samples together tell them apart; none of the three does alone."
