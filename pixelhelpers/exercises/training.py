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
        ✗ Not yet. Not the bits per dimension: for one image you get 8.000 instead of 6.527.
    """
    generator = torch.Generator().manual_seed(0)
    # Few levels, few images: a softmax over a wrong axis then gives numbers that differ clearly.
    logits = 3 * torch.randn(3, 6, 5, 8, generator=generator, dtype=torch.float64)
    images = torch.randint(6, (3, 1, 5, 8), generator=generator).to(torch.uint8)
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
    if given.shape == right.shape and torch.allclose(given.double(), right, rtol=0.01):
        raise Mistake(
            "Nearly: the numbers differ in late digits. Does something small stand inside the logarithm, or are the "
            "logits rounded to half precision?"
        )
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
        "That is in units of log(number of levels), so that a uniform guess costs 1: bits divide by ln 2.": (
            right * math.log(2) / math.log(logits.shape[1])
        ),
        "You divided by ln 256, so that a uniform guess costs 1: bits divide by ln 2.": right / 8,
        "You divided by the number of levels as well: an image has height × width values.": right / logits.shape[1],
        "You divided by the width (or height) squared: these images are not square.": (right * values / images.shape[-1] ** 2),
        "That is the perplexity, 2 to the power of the bits.": 2**right,
        "You took the exponential of the bits: the logarithm is what is asked for.": right.exp(),
        "That is how much probability the true level lacks, 1 - p: the cost is its logarithm, -log p.": (
            1 - _chosen(logits.softmax(1), images).mean((1, 2))
        ),
        "Each prediction is scored with the level of a neighbour: logits and image belong together pixel by pixel.": (
            _bits(logits, images.roll(1, -1))
        ),
        "Only the first row is scored: the mean runs over height and width.": (
            -_chosen(logits.log_softmax(1), images)[:, 0].mean(1) / math.log(2)
        ),
        "That is the entropy of the predictions, which asks no image: take the level that is there.": (
            torch.special.entr(logits.softmax(1)).sum(1).mean((1, 2)) / math.log(2)
        ),
        "You averaged over the batch: keep one number per image, [N].": right.mean(),
        "Each image got the mean of the batch: keep one number of its own for each.": right.mean().expand(count),
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
    logits = torch.zeros(2, 256, 28, 28)  # as large as the notebook's
    logits[:, 1] = 200.0
    bits = ask(answer, logits, torch.zeros(2, 1, 28, 28, dtype=torch.uint8))
    if bits.isfinite().all() and not torch.allclose(bits.double(), torch.tensor(200 / math.log(2)).double(), rtol=1e-4):
        raise Mistake(
            f"Right for moderate logits, but a level of probability e^-200 costs {float(bits[0]):.4g} bits: is there a "
            "smallest probability? It hides what float32 cannot hold; log_softmax or cross_entropy need none."
        )
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
    asked = normalised.clone()
    given = ask(answer, asked)
    if not torch.equal(asked, normalised):
        raise Mistake("Your function changed the image that it was given (mul_, add_, …): make a new one.")
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
            _needs_no_luck(answer, levels, normalised)
            return "All 256 levels come back."
        wrong = int(off.count_nonzero())
        # On most processors a negative float becomes 256 minus its size as uint8, on others 0.
        undone = normalised * 255
        if any(torch.equal(given.long(), f(undone)) for f in _casts()):
            raise Mistake("Normalize is not undone: its output runs from -1 to 1; first times 0.5, then plus 0.5.")
        for words, function in WAYS_BACK.items():
            if torch.equal(given.long(), function(normalised)):
                raise Mistake(words)
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


def _needs_no_luck(answer: Callable[[Tensor], Tensor], levels: Tensor, normalised: Tensor) -> None:
    """Asks again with last digits that another processor may give, and for an image that has no black and no white."""
    for nudge in (-1e-6, 1e-6):
        wrong = int((ask(answer, normalised + nudge).long() != levels).sum())
        if wrong:
            raise Mistake(
                f"Right for these very floats, but a difference in the seventh digit, as between two machines, brings "
                f"{wrong} levels back wrong: take the nearest integer."
            )
    if (ask(answer, normalised[:, :, 4:8].clone()).long() != levels[:, :, 4:8]).any():
        raise Mistake("An image without black and white comes back brightened: the way back is the same for every image.")


WAYS_BACK: dict[str, Callable[[Tensor], Tensor]] = {
    "A signed 8-bit integer ends at 127, and 128 becomes -128: an overflow. Take uint8, or a longer integer.": lambda x: (
        ((x * 0.5 + 0.5) * 255).round().to(torch.int8).long()
    ),
    "ToTensor divides by 255, not by 256: multiply by that.": lambda x: (
        ((x * 0.5 + 0.5) * 256).round().clamp(0, 255).long()
    ),
    "x + 1 runs from 0 to 2: halve it before you multiply by 255.": lambda x: ((x + 1) * 255).round().clamp(0, 255).long(),
    "The steps of Normalize are undone in the wrong order: the last step, the division by 0.5, first.": lambda x: (
        ((x + 0.5) * 0.5 * 255).round().clamp(0, 255).long()
    ),
    "Black and white are exchanged: -1 is black.": lambda x: 255 - ((x * 0.5 + 0.5) * 255).round().long(),
    "Negative numbers are the dark half of the levels: shift them, do not take their size.": lambda x: (
        (x.abs() * 255).round().long()
    ),
    "[-1, 1] is 2 wide, [0, 255] is 255 wide: the factor is half of 255, and 127 is not.": lambda x: (
        (x * 127 + 127).round().long()
    ),
    "[-1, 1] is 2 wide, [0, 255] is 255 wide: the factor is half of 255, and 128 is not.": lambda x: (
        (x * 128 + 127).round().clamp(0, 255).long()
    ),
    "The numbers became integers before they were multiplied by 255: only 0 and 1 were left then.": lambda x: (
        (x * 0.5 + 0.5).long() * 255
    ),
}


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
