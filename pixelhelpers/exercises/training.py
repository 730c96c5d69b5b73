"""Checks of notebook 03: bits per dimension, and the way back from a normalised image."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .verdict import Mistake, ask, exercise


@exercise
def check_bits_per_dim(answer: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Checks a function from logits and images to the bits per dimension of each image.

    Arguments:
        answer: takes logits `[N, levels, H, W]` and images `[N, 1, H, W]`, uint8; gives `[N]`.

    Example:
        >>> check_bits_per_dim(lambda logits, images: torch.full((len(images),), 8.0))
        ✗ Not yet. Not the bits per dimension: for one image you get 8.000 instead of 6.554.
    """
    generator = torch.Generator().manual_seed(0)
    # Few levels, few images: a softmax over a wrong axis then gives numbers that differ clearly.
    logits = 3 * torch.randn(3, 8, 5, 8, generator=generator, dtype=torch.float64)
    images = torch.randint(8, (3, 1, 5, 8), generator=generator).to(torch.uint8)
    given = ask(answer, logits.clone(), images.clone())
    if not isinstance(given, Tensor):
        raise Mistake(f"You return {type(given).__name__}: return a tensor with one number per image, [N].")
    if not given.isfinite().all():
        raise Mistake("A number is NaN or infinite: use log_softmax, not the logarithm of a softmax.")
    right = _bits(logits, images)
    if given.shape == right.shape and torch.allclose(given.double(), right):
        _survives_large_logits(answer)
        return "Bits per dimension, one number per image: every likelihood here is read in them."
    for diagnosis, wrong in _mistaken_bits(logits, images).items():
        if given.shape == wrong.shape and torch.allclose(given.double(), wrong):
            raise Mistake(diagnosis)
    if given.shape != right.shape:
        raise Mistake(f"You return the shape {tuple(given.shape)}: one number per image is asked for, [N] = (3,).")
    raise Mistake(
        f"Not the bits per dimension: for one image you get {float(given[0]):.3f} instead of {float(right[0]):.3f}."
    )


def _chosen(values: Tensor, images: Tensor) -> Tensor:
    """Picks the entry of the true level, `[N, H, W]`."""
    return values.gather(1, images.long()).squeeze(1)


def _bits(logits: Tensor, images: Tensor) -> Tensor:
    return -_chosen(logits.log_softmax(1), images).mean((1, 2)) / math.log(2)


def _mistaken_bits(logits: Tensor, images: Tensor) -> dict[str, Tensor]:
    right, count, values = _bits(logits, images), len(images), images[0].numel()
    wrong_axis = {axis: -_chosen(logits.log_softmax(axis), images).mean((1, 2)) / math.log(2) for axis in (0, 2, 3)}
    confidence = -logits.log_softmax(1).amax(1).mean((1, 2)) / math.log(2)
    flat = "a probability distribution needs its sum to run over the levels, axis 1"
    return {
        "The sign: a likelihood below 1 has a negative logarithm; bits are its negative, a positive cost.": -right,
        "These are nats: divide by ln 2 = 0.693 to get bits.": right * math.log(2),
        "These are negative nats: change the sign, and divide by ln 2 to get bits.": -right * math.log(2),
        "You multiplied by ln 2: one nat is 1 / ln 2 = 1.44 bits, so divide.": right * math.log(2) ** 2,
        "You took the logarithm to base 10: bits need base 2.": right * math.log10(2),
        "That is the sum over the image's pixels: divide by the number of values, so that sizes compare.": (
            right * values
        ),
        "That is the sum in nats: divide by ln 2 and by the number of values of an image.": (
            right * values * math.log(2)
        ),
        "Divide by the number of values of *these* images, which are smaller than 28 x 28.": right * values / 784,
        "You divided by the number of images, not by the number of values of one.": right * values / count,
        "You divided by the number of images as well: each image already has a number of its own.": right / count,
        "You divided by the number of levels: an image has height × width values, each costs some bits.": (
            right * values / logits.shape[1]
        ),
        "You averaged over the batch: keep one number per image, [N].": right.mean(),
        "You averaged over the batch, and the number is in nats: keep one per image and divide by ln 2.": (
            right.mean() * math.log(2)
        ),
        "You summed over the batch: keep one number per image, [N].": right.sum(),
        f"The softmax runs over the images of the batch: {flat}.": wrong_axis[0],
        f"The softmax runs over the rows: {flat}.": wrong_axis[2],
        f"The softmax runs over the columns: {flat}.": wrong_axis[3],
        "A logit is not a log-probability: subtract the log-sum-exp over the levels (log_softmax).": (
            -_chosen(logits, images).mean((1, 2)) / math.log(2)
        ),
        "That is a probability, not its logarithm.": _chosen(logits.softmax(1), images).mean((1, 2)),
        "You averaged the probabilities before the logarithm: the logarithms add up, the probabilities multiply.": (
            -_chosen(logits.softmax(1), images).mean((1, 2)).log2()
        ),
        "The softmax was applied twice: cross_entropy wants logits, not probabilities.": _bits(
            logits.softmax(1), images
        ),
        "That scores the level the model likes best (max): score the level that the image has (gather).": confidence,
    }


def _survives_large_logits(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    logits = torch.zeros(1, 2, 1, 1)
    logits[:, 1] = 200.0
    bits = ask(answer, logits, torch.zeros(1, 1, 1, 1, dtype=torch.uint8))
    if not bits.isfinite().all():
        raise Mistake(
            "Right for moderate logits, but infinite for a level of probability e^-200, which "
            "float32 rounds to 0: "
            "use log_softmax or cross_entropy, not the logarithm of a softmax."
        )


@exercise
def check_to_levels(answer: Callable[[Tensor], Tensor]) -> str:
    """Checks the inverse of `ToTensor` followed by `Normalize(0.5, 0.5)`.

    Arguments:
        answer: takes float32 images in [-1, 1], gives the levels 0 … 255 as integers.

    Example:
        >>> check_to_levels(lambda x: ((x * 0.5 + 0.5) * 255).round().to(torch.uint8))
        ✓ All 256 levels come back.
        >>> check_to_levels(lambda x: ((x * 0.5 + 0.5) * 255).to(torch.uint8))
        ✗ Not yet. 63 of 256 levels come back one too low: casts cut off, so round first.
    """
    levels = torch.arange(256).view(1, 1, 16, 16)
    normalised = (levels.float() / 255 - 0.5) / 0.5
    given = ask(answer, normalised.clone())
    if not isinstance(given, Tensor) or given.shape != levels.shape:
        shown = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
        raise Mistake(f"You return {shown} for images {tuple(levels.shape)}: return a tensor of the same shape.")
    if given.is_floating_point():
        if torch.allclose(given, levels.float(), atol=0.01):
            raise Mistake("The numbers are right, but still floats: round, then make them integers (uint8).")
        if torch.allclose(given, levels / 255, atol=1e-4):
            raise Mistake("That undoes Normalize; ToTensor divided by 255, so multiply, round, and make integers.")
    else:
        off = given.long() - levels
        if not off.any():
            return "All 256 levels come back."
        wrong = int(off.count_nonzero())
        # On most processors a negative float becomes 256 minus its size as uint8, on others 0.
        undone = normalised * 255
        if any(torch.equal(given.long(), f(undone)) for f in _casts()):
            raise Mistake("Normalize is not undone: its output runs from -1 to 1; first times 0.5, then plus 0.5.")
        if off.flatten().nonzero().tolist() == [[255]]:
            raise Mistake("Only white is wrong: ToTensor divides by 255, not by 256, so white is 255 / 255 = 1.")
        if set(off.unique().tolist()) <= {-1, 0}:
            raise Mistake(f"{wrong} of 256 levels come back one too low: casts cut off, so round first.")
        if set(off.unique().tolist()) <= {0, 1}:
            raise Mistake(f"{wrong} of 256 levels come back one too high: round to the nearest, do not round up.")
        if int(given.max()) <= 1:
            raise Mistake("That leaves only 0 and 1: multiply by 255 before the numbers become integers.")
    worst = int((given.double() - levels).abs().flatten().argmax())
    raise Mistake(f"Level {worst} becomes {given.flatten()[worst].item():g}: undo Normalize first, then ToTensor.")


def _casts() -> tuple[Callable[[Tensor], Tensor], ...]:
    return (
        lambda x: x.long(),
        lambda x: x.round().long(),
        lambda x: x.long() % 256,
        lambda x: x.round().long() % 256,
        lambda x: x.long().clamp(0, 255),
        lambda x: x.round().long().clamp(0, 255),
        lambda x: x.to(torch.uint8).long(),
        lambda x: x.round().to(torch.uint8).long(),
    )
