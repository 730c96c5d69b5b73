"""Checks of notebook 03: the way back to levels, bits per dimension, the loop, a model without a network."""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data import load_images
from ..models import PixelCNN
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
        "You divided by the width (or height) squared: these images are not square.": (
            right * values / images.shape[-1] ** 2
        ),
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
            if any(torch.equal(found, function(normalised)) for found in (given.long(), given.long().clamp(0, 255))):
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
        raise Mistake(
            "An image without black and white comes back brightened: the way back is the same for every image."
        )


WAYS_BACK: dict[str, Callable[[Tensor], Tensor]] = {
    "A signed 8-bit integer ends at 127, and 128 becomes -128: an overflow. Take uint8.": lambda x: (
        ((x * 0.5 + 0.5) * 255).round().to(torch.int8).long()
    ),
    "ToTensor divides by 255, not by 256: multiply by that.": lambda x: (
        ((x * 0.5 + 0.5) * 256).round().clamp(0, 255).long()
    ),
    "x + 1 runs from 0 to 2: halve it before you multiply by 255.": lambda x: (
        ((x + 1) * 255).round().clamp(0, 255).long()
    ),
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


# -- the loop -------------------------------------------------------------------------------------


def _pass(
    model: nn.Module,
    images: Tensor,
    batch_size: int,
    lr: float,
    *,
    optimizer: Callable = torch.optim.Adam,
    target: Callable[[Tensor], Tensor] = lambda x: x[:, 0].long(),
    given: Callable[[Tensor], Tensor] = lambda x: x,
    anew: bool = False,
    clear: bool = True,
    steps: int = 1,
    after: bool = False,
    reduction: str = "mean",
) -> list[float]:
    """One pass over the images, `[N, 1, H, W]`: the bits of every step; with the mistakes that learners make."""
    chosen = optimizer(model.parameters(), lr=lr)
    bits = []
    for x in images.split(batch_size):
        chosen = optimizer(model.parameters(), lr=lr) if anew else chosen
        loss = F.cross_entropy(model(given(x)), target(x), reduction=reduction)
        loss.backward()
        for _ in range(steps):
            chosen.step()
        if clear:
            chosen.zero_grad()
        loss = F.cross_entropy(model(given(x)), target(x), reduction=reduction) if after else loss
        bits.append(loss.item() / math.log(2))
    return bits


LOOPS: dict[str, dict] = {
    "The gradients are never cleared: each step adds to those of all steps before (optimizer.zero_grad).": {
        "clear": False
    },
    "A new optimiser is made in every step. Adam's memory of past gradients is lost: make it once, before the loop.": {
        "anew": True
    },
    "The optimiser steps twice for each batch.": {"steps": 2},
    "That is plain gradient descent (SGD): Adam is asked for.": {"optimizer": torch.optim.SGD},
    "That is AdamW, which also shrinks the weights: Adam is asked for.": {"optimizer": torch.optim.AdamW},
    "That is RMSprop: Adam is asked for.": {"optimizer": torch.optim.RMSprop},
    "The images are divided by 255, and the model scales them once more: give it the integers.": {
        "given": lambda x: x / 255
    },
    "The loss is a sum over all values of the batch: take the mean.": {"reduction": "sum"},
    "The target is the left neighbour of each pixel: logits and levels belong together pixel by pixel.": {
        "target": lambda x: x[:, 0].long().roll(1, -1)
    },
    "The target is another image of the batch.": {"target": lambda x: x[:, 0].long().roll(1, 0)},
    "The optimiser goes uphill: it makes the loss larger.": {
        "optimizer": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr, maximize=True)
    },
}


@exercise
def check_train(answer: Callable[[nn.Module, Tensor, int, float], list[float]]) -> str:
    """Checks a training loop: one pass over the images, in order, with Adam.

    Arguments:
        answer: takes a model, images uint8 `[N, 1, H, W]`, the batch size and the learning rate; trains the model and
            returns the loss of every step, in bits per value.

    Example:
        >>> check_train(lambda model, images, batch_size, lr: [8.0])
        ✗ Not yet. 23 images in batches of 5 make 5 steps, and you return 1 number.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        start = PixelCNN(levels=16, hidden=8, blocks=1, dropout=0.0)
        images = _like_pictures(23)
        mine, before, asked = copy.deepcopy(start), images.clone(), images.clone()
        torch.manual_seed(1)
        given = ask(answer, mine, asked, 5, 0.02)
    if not torch.equal(asked, before):
        raise Mistake("Your function changed the images that it was given.")
    given = _bits_of_steps(given)
    if not mine.training:
        raise Mistake("The model is in evaluation mode: with dropout it would learn without. Leave train mode on.")
    reference = copy.deepcopy(start)
    right = _pass(reference, images, 5, 0.02)
    same_weights = _alike(mine, reference)
    if same_weights and torch.allclose(given, torch.tensor(right), rtol=1e-3):
        _looks_at_its_arguments(answer, start, images)
        return f"The same losses and the same weights as ours: from {right[0]:.2f} to {right[-1]:.2f} bits."
    if _alike(mine, start):
        raise Mistake(_why_nothing_moved(given, start, images))
    if same_weights:
        if torch.allclose(given, torch.tensor(_pass(copy.deepcopy(start), images, 5, 0.02, after=True)), rtol=1e-3):
            raise Mistake("The loss is measured after the step: return what the batch cost before it was learned from.")
        raise Mistake(_what_the_numbers_are(given, torch.tensor(right)))
    for words, mistake in LOOPS.items():
        if _alike(mine, _after(start, images, **mistake)):
            raise Mistake(words)
    if _alike(mine, _after(start, torch.cat([images, images]), batches=[5, 5, 5, 5, 3] * 2)):
        raise Mistake("You pass over the images twice: once is asked for.")
    if _alike(mine, _after(start, images.flip(0))):
        raise Mistake("You begin with the last image: keep the order.")
    for factor in (0.05, 0.1, 0.5, 2, 10):
        if _alike(mine, _after(start, images, lr=0.02 * factor)):
            raise Mistake(f"The learning rate is {factor:g} times the one that is given.")
    if torch.allclose(given[:1], torch.tensor(right[:1]), rtol=1e-3):
        first = int(((given - torch.tensor(right)).abs() > 1e-3).int().argmax()) if len(given) == len(right) else 1
        raise Mistake(
            f"The first loss is right, but from step {first} on they differ, and so do the weights: something else "
            "than one plain step of Adam with the given learning rate happens in each turn."
        )
    raise Mistake(
        "Already the first loss differs from ours, before anything is learned: are these the first images, in the "
        "order given, and is the loss the cross-entropy of the logits with the levels?"
    )


def _like_pictures(count: int) -> Tensor:
    """Bright blots on black in 16 levels, uint8 `[count, 1, 8, 8]`."""
    generator = torch.Generator().manual_seed(3)
    blots = F.avg_pool2d(torch.randn(count, 1, 12, 12, generator=generator), 5, stride=1)
    return (40 * blots).clamp(0, 15).to(torch.uint8)


def _bits_of_steps(given: object) -> Tensor:
    if isinstance(given, Tensor) and given.dim() == 1:
        given = list(given)
    if not isinstance(given, list | tuple):
        raise Mistake(f"You return {type(given).__name__}: return the losses, one number for each step, in a list.")
    if any(isinstance(value, Tensor) and value.requires_grad for value in given):
        raise Mistake(
            "The losses in your list still hold the graph of every step, and with it all features: memory fills up. "
            "`loss.item()` takes the number alone."
        )
    numbers = torch.tensor([float(value) for value in given])
    if len(numbers) != 5:
        why = ": the last batch is smaller" if len(numbers) == 4 else ""
        raise Mistake(
            f"23 images in batches of 5 make 5 steps, and you return {len(numbers)} "
            f"number{'s' * (len(numbers) != 1)}{why}."
        )
    return numbers


def _alike(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in pairs)


def _after(
    start: nn.Module, images: Tensor, lr: float = 0.02, batches: list[int] | None = None, **mistake
) -> nn.Module:
    """The model after a pass; `batches`: sizes, default 5 each."""
    model = copy.deepcopy(start)
    with torch.random.fork_rng(devices=[]):
        if batches is None:
            _pass(model, images, 5, lr, **mistake)
        else:
            optimizer = torch.optim.Adam(model.parameters(), lr=lr)
            for x in images.split(batches):
                optimizer.zero_grad()
                F.cross_entropy(model(x), x[:, 0].long()).backward()
                optimizer.step()
    return model


def _why_nothing_moved(given: Tensor, start: nn.Module, images: Tensor) -> str:
    with torch.no_grad():
        untrained = [F.cross_entropy(start(x), x[:, 0].long()) / math.log(2) for x in images.split(5)]
    if torch.allclose(given, torch.stack(untrained), rtol=1e-3):
        return (
            "The model has not learned: every loss is that of the untrained weights. Is the step missing, or are the "
            "gradients cleared before it?"
        )
    return "The losses fall, but the model that you were given is as before: you train a copy of it."


def _what_the_numbers_are(given: Tensor, right: Tensor) -> str:
    """Says which numbers were returned by a loop that learns rightly."""
    mistakes = {
        "These are nats: divide by ln 2.": right * math.log(2),
        "You multiplied by ln 2: to get bits, divide.": right * math.log(2) ** 2,
        "The sign: the loss is positive.": -right,
        "These are running means: return the loss of each step.": right.cumsum(0) / torch.arange(1, len(right) + 1),
        "The losses are cut to integers.": right.floor(),
        "These are sums over the batch: return the mean of each batch.": right * torch.tensor([5, 5, 5, 5, 3]) * 64,
    }
    for words, wrong in mistakes.items():
        if torch.allclose(given, wrong, rtol=1e-3):
            return f"The model learns as it should. {words}"
    if torch.allclose(given.sort()[0], right.sort()[0], rtol=1e-3):
        return "The model learns as it should, but the losses are in another order than the steps."
    return (
        "The model learns as it should, but the losses that you return are not those of the steps in bits per value: "
        f"the first is {given[0]:.3f}, ours is {right[0]:.3f}."
    )


def _looks_at_its_arguments(answer: Callable, start: nn.Module, images: Tensor) -> None:
    for batch_size, lr in ((23, 0.02), (5, 0.002)):
        mine, reference = copy.deepcopy(start), copy.deepcopy(start)
        given = ask(answer, mine, images.clone(), batch_size, lr)
        right = _pass(reference, images, batch_size, lr)
        if len(list(given)) != len(right):
            raise Mistake(
                f"Right for batches of 5; asked for batches of {batch_size} you make {len(list(given))} steps."
            )
        if not _alike(mine, reference):
            raise Mistake(f"Right for one learning rate; asked for {lr} the weights are others: use the argument.")


# -- a model without a network --------------------------------------------------------------------


@exercise
def check_baseline(answer: Callable[[Tensor], Callable[[Tensor], Tensor]]) -> str:
    """Checks a predictor that counts, and is to beat the left neighbour on the bundled digits.

    Arguments:
        answer: takes training images uint8 `[N, 1, 28, 28]` and returns a function from images to log-probabilities
            `[N, 256, 28, 28]`, which may look at earlier pixels only.

    Example:
        >>> check_baseline(lambda train: lambda x: torch.full((len(x), 256, *x.shape[2:]), 1 / 256).log())
        ✗ Not yet. 8.000 bits per dimension; the left neighbour alone needs 1.453.
    """
    digits = load_images("digits")
    predict = ask(answer, digits.train.clone())
    if not callable(predict):
        raise Mistake(f"You return {type(predict).__name__}: return a function from images to log-probabilities.")
    x = digits.valid[:100]
    with torch.no_grad():
        log_p = ask(predict, x.clone())
    expected = (len(x), 256, *x.shape[2:])
    if not isinstance(log_p, Tensor) or log_p.shape != expected:
        shape = tuple(log_p.shape) if isinstance(log_p, Tensor) else type(log_p).__name__
        raise Mistake(f"Your function returns {shape}: log-probabilities {expected} are asked for.")
    if log_p.isnan().any():
        raise Mistake("Some log-probabilities are NaN: 0 / 0, or the logarithm of a negative number?")
    if not torch.allclose(log_p.double().logsumexp(1), torch.zeros(()).double(), atol=1e-3):
        total = float(log_p.double().exp().sum(1).flatten()[0])
        raise Mistake(
            f"The 256 probabilities of the first pixel sum to {total:.3g}: they must sum to 1, at every pixel."
        )
    bits = float(-log_p.gather(1, x.long()).mean() / math.log(2))
    if math.isinf(bits):
        raise Mistake("A level that is there got probability 0, which costs infinitely much: let no count begin at 0.")
    _sees_the_past_only(predict, x[:2])
    left = _left_neighbour(digits.train, x)
    if bits >= left:
        raise Mistake(f"{bits:.3f} bits per dimension; the left neighbour alone needs {left:.3f}.")
    return f"{bits:.3f} bits per dimension without a network; the left neighbour alone needs {left:.3f}."


def _sees_the_past_only(predict: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Changes pixels of real images and watches the predictions for them and before them."""
    for row, column in ((27, 27), (20, 9), (14, 14), (7, 20), (3, 0), (0, 0)):
        other = x.clone()
        later = (torch.arange(784) >= 28 * row + column).view(28, 28)
        noise = torch.randint(256, x.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(row))
        other[:, :, later] = noise[:, :, later]
        until = later.logical_not()
        until[row, column] = True
        if not torch.allclose(predict(x)[:, :, until], predict(other)[:, :, until], atol=1e-4, equal_nan=True):
            raise Mistake(f"It leaks: a prediction at ({row}, {column}) or before changes with pixels from there on.")


def _left_neighbour(train: Tensor, x: Tensor) -> float:
    """What the notebook's predictor "left neighbour" needs, in bits per value."""

    def context(images: Tensor) -> Tensor:
        return F.pad(images[..., :-1].long(), (1, 0), value=256)

    counts = 1 + (context(train) * 256 + train.long()).flatten().bincount(minlength=257 * 256).view(257, 256).double()
    p = counts / counts.sum(1, keepdim=True)
    return float(-p[context(x), x.long()].log2().mean())
