"""Checks of notebook 14: a difference with its error, the models that no other beats, a model of your own."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..checking import check_model
from ..data import Images, load_images
from ..errors import ModelError
from ..models import as_model, list_pretrained, load_pretrained
from ..scoring import evaluate
from .verdict import Mistake, ask, exercise


def _pair(result: Any) -> tuple[float, float]:
    """The two numbers of an answer, whatever holds them."""
    try:
        mean, error = result
        return float(mean), float(error)
    except (TypeError, ValueError, RuntimeError):
        raise Mistake("Return two numbers: the mean difference, and its standard error.") from None


@exercise
def check_difference(answer: Callable[[Tensor, Tensor], tuple[float, float]]) -> str:
    """Checks the mean difference of two models' scores on the same images, with its standard error.

    Arguments:
        answer: takes the bits of the first and of the second model for each image, both `[N]`; returns how many
            more the first takes on average, and the standard error of that.

    Example:
        >>> check_difference(lambda first, second: (first.mean() - second.mean(), (first - second).std()))
        ✗ Not yet. That is how much single images differ from each other. The mean of 50 of them is surer.
    """
    generator = torch.Generator().manual_seed(0)
    for count, ahead in ((50, 0.1), (20, -0.1)):
        image, *own = torch.randn(3, count, generator=generator, dtype=torch.float64)
        first, second = (2.8 + 0.8 * image + size * noise for size, noise in zip((0.05, 0.08), own, strict=True))
        first += ahead
        mean, error = _pair(ask(answer, first.clone(), second.clone()))
        apart, root = first - second, count**0.5
        right = float(apart.mean()), float(apart.std()) / root

        def near(one: float, other: Tensor | float) -> bool:
            return abs(one - float(other)) <= 1e-3 * abs(float(other))

        if not near(mean, right[0]):
            for wrong, words in (
                (
                    abs(right[0]),
                    "The sign is lost: where the first model takes fewer bits, the difference is below 0.",
                ),
                (-right[0], "The sign is wrong: asked for is how many bits *more* the first one takes."),
                (right[1], "The two numbers have changed places: the mean first, then its error."),
                (
                    apart.abs().mean(),
                    "That is the mean *distance*: where the first takes fewer bits, that counts, too.",
                ),
                (first.mean() / second.mean(), "That is the ratio. Asked for is the difference."),
                (apart.sum(), "That is the sum over the images: take their mean."),
                (apart.median(), "That is the median. The score of a model is the mean."),
            ):
                if near(mean, wrong):
                    raise Mistake(words)
            raise Mistake(f"The first model takes {right[0]:.4f} bits more on average; you say {mean:.4f}.")
        if near(error, right[1]) or near(error, apart.std(correction=0) / root):
            continue
        alone = [scores.std() / root for scores in (first, second)]
        for wrong, words in (
            (
                (alone[0] ** 2 + alone[1] ** 2).sqrt(),
                "That is the error for scores on *different* images. These are the same: an image that is hard for one "
                "is hard for the other. Take the difference of each image first.",
            ),
            (alone[0] + alone[1], "You add the errors of the two means. Take the difference of each image first."),
            (abs(alone[0] - alone[1]), "Errors do not subtract. Take the difference of each image first."),
            (alone[0], "That is the error of one model's own mean. Take the difference of each image first."),
            (alone[1], "That is the error of one model's own mean. Take the difference of each image first."),
            (
                apart.std(),
                f"That is how much single images differ from each other. The mean of {count} of them is surer.",
            ),
            (apart.var(), "That is the variance of single images. Take the root, and the mean of many is surer."),
            (apart.var() / count, "That is the error squared: take the root."),
            (apart.std() / count, f"The error shrinks with the root of the number of images, not with {count}."),
            (
                apart.std() / (count - 1) ** 0.5,
                f"You divide by the root of {count - 1}: the standard deviation has seen to that, divide by √N.",
            ),
            (
                apart.square().mean().sqrt() / root,
                "That is the spread around 0: the standard deviation is the spread around the mean.",
            ),
            (
                (first.sort().values - second.sort().values).std() / root,
                "The scores were sorted before they were compared: now no pair belongs to one image.",
            ),
            (
                apart.std() / (2 * count) ** 0.5,
                f"You divide by {(2 * count) ** 0.5:.1f}. Here are {count} images, not {2 * count}, and one difference "
                "for each.",
            ),
            (apart.abs().std() / root, "The differences have lost their signs before you look at their spread."),
            (2 * right[1], "That is two standard errors: half of an interval, a good thing to show. Return one."),
            (1.96 * right[1], "That is 1.96 standard errors: half of an interval, a good thing to show. Return one."),
        ):
            if near(error, wrong):
                raise Mistake(words)
        raise Mistake(f"For {count} images the standard error is {right[1]:.5f}; you say {error:.5f}.")
    return "Image by image: what makes an image hard for both has gone, and a small difference can be seen."


Costs = dict[str, tuple[float, ...]]


def _beats(one: Iterable[float], other: Iterable[float]) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _without(models: Costs, beats: Callable[[tuple, tuple], bool]) -> set[str]:
    """The models that no other beats, by this rule."""
    return {
        name
        for name, costs in models.items()
        if not any(beats(rival, costs) for other, rival in models.items() if other != name)
    }


@exercise
def check_unbeaten(answer: Callable[[Costs], Iterable[str]]) -> str:
    """Checks which models are worth taking: those that no other beats.

    Arguments:
        answer: takes the costs of each model by its name, lower is better, as many as you like; returns the names of
            those that are not beaten. One beats another if it is nowhere worse and somewhere better.

    Example:
        >>> check_unbeaten(lambda models: "all of them")
        ✗ Not yet. You return 'all of them': return the names of the models, a list or a set.
    """
    cases: list[Costs] = [
        {"a": (3.0, 1.0), "b": (2.9, 2.0), "c": (2.95, 3.0), "d": (2.8, 5.0)},
        {"a": (3.0, 1.0), "b": (2.0, 3.0), "c": (2.5, 4.0), "d": (3.5, 2.0), "e": (2.6, 2.0)},
        {"a": (3.0, 1.0), "b": (3.0, 2.0), "c": (2.0, 2.0)},
        {"a": (3.0, 1.0), "twin of a": (3.0, 1.0), "b": (2.0, 2.0)},
        {"a": (3.0, 1.0, 9.0), "b": (2.0, 2.0, 9.0), "c": (2.5, 2.5, 8.0), "d": (2.5, 3.0, 8.0)},
        {"a": (3.0, 3.0), "b": (2.0, 5.0), "c": (1.0, 2.0), "d": (2.0, 1.998)},
        {"a": (3.0, 1.0, 2.0)},
    ]
    for models in cases:
        result = ask(answer, dict(models))
        if isinstance(result, str) or not isinstance(result, Iterable):
            raise Mistake(f"You return {result!r}: return the names of the models, a list or a set.")
        names = list(result)
        strangers = [name for name in names if name not in models]
        if strangers:
            raise Mistake(f"{strangers[0]!r} is not the name of a model: return names, such as {next(iter(models))!r}.")
        right = _without(models, _beats)
        if set(names) != right:
            said = ", ".join(sorted(names)) or "none"
            raise Mistake(
                f"For {models} the names are {', '.join(sorted(right))}; you say {said}. {_why(models, set(names))}"
            )
        if len(names) != len(right):
            raise Mistake(f"For {models} a name comes twice: {', '.join(names)}.")
    return "Nobody is left whom another beats. What to choose among the rest is up to you."


def _why(models: Costs, names: set[str]) -> str:
    """What leads to these names."""
    columns = list(zip(*models.values(), strict=True))
    best = {name for name, costs in models.items() if any(c == min(o) for c, o in zip(costs, columns, strict=True))}
    behind = {name for name, costs in models.items() if all(c > min(o) for c, o in zip(costs, columns, strict=True))}
    for wrong, words in (
        (set(models) - _without(models, _beats), "Those are the ones that are beaten."),
        (
            _without(models, lambda one, other: _beats(other, one)),
            "Lower is better here, for bits and for seconds.",
        ),
        (
            _without(models, lambda one, other: all(a < b for a, b in zip(one, other, strict=True))),
            "To beat another, it is enough to be as good in one thing and better in the other.",
        ),
        (
            _without(models, lambda one, other: all(a <= b for a, b in zip(one, other, strict=True))),
            "Of two equal models neither is better, so neither beats the other.",
        ),
        (
            set(),
            "To beat is to be nowhere worse and somewhere better. Nobody is better than itself, and to be better in "
            "one thing alone is not to beat.",
        ),
        (
            _without(models, lambda one, other: _beats(one[:2], other[:2])),
            "You look at the first two columns only: there may be more.",
        ),
        (
            set(models) - behind,
            "To be behind somebody in each thing is not to be beaten: it takes one who is ahead in all.",
        ),
    ):
        if names == wrong:
            return words
    if names and names < best:
        return "A model need not be the best in anything: it is worth taking if nobody beats it."
    for name in sorted(names):
        for rival, costs in models.items():
            if _beats(costs, models[name]):
                return f"But {rival} beats {name}."
    return "Compare each model with each other one, column by column."


ENOUGH = 1.20  # bits per dimension: tables of neighbours end above 1.3, a small PixelCNN passes it within a minute


@exercise
def check_own_model(answer: nn.Module) -> str:
    """Checks a model of digits, whatever it is: honest by all proofs of `check_model`, and good enough.

    Good enough is below 1.20 bits per dimension. It is scored on the 500 test images of the bundled digits, and again
    with each of them moved by one pixel, so that nothing is gained by learning them by heart. The shipped models are
    not accepted as they are; what is built on them is.

    Arguments:
        answer: a model of the package or a subclass, or a module that maps `[N, 1, 28, 28]`, levels 0 to 255, to
            `[N, 256, 28, 28]`; with classes, it is told the digit.

    Example:
        >>> from pixelhelpers.layers import MaskedConv2d
        >>> check_own_model(MaskedConv2d("B", 1, 256, 3))  # doctest: +ELLIPSIS
        ✗ Not yet. check_model refuses it: MaskedConv2d: output (channel 0, ...
    """
    if isinstance(answer, type):
        raise Mistake(f"That is the class {answer.__name__}: build a model of it and train that.")
    if not isinstance(answer, nn.Module):
        raise Mistake(f"You give a {type(answer).__name__}: give the model itself, an nn.Module, after training.")
    digits = load_images("digits")
    try:
        check_model(answer)
        model = as_model(answer).eval()
        if model.levels != digits.levels:
            raise Mistake(
                f"It knows {model.levels} levels, and digits have {digits.levels}: score it on what they are."
            )
        bits = evaluate(model, digits.test, digits.test_labels)
    except (ModelError, ValueError) as error:
        raise Mistake(f"check_model refuses it: {str(error).splitlines()[0]}") from None
    shipped = _shipped(model, digits)
    if shipped:
        raise Mistake(
            f"It says of every image exactly what the shipped {shipped!r} says. An honest model, but not your own: "
            "build one, or make another one out of it."
        )
    if not bits < ENOUGH:
        raise Mistake(
            f"It is honest, and takes {bits:.3f} bits per dimension; below {ENOUGH:.2f} is asked for. "
            + _missing(model, digits, bits)
        )
    moved = evaluate(model, F.pad(digits.test, (1, -1)), digits.test_labels)
    if not moved < ENOUGH + 0.1:
        raise Mistake(
            f"The test images take {bits:.3f} bits per dimension. Moved to the right by one pixel, they take "
            f"{moved:.3f}: it knows these images by heart, not digits."
        )
    return f"{bits:.3f} bits per dimension, and honest: a model of your own. (The shipped PixelCNN takes 1.001.)"


def _log_prob(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.inference_mode():
        return model.log_prob(images, None if model.classes is None else labels).double()


def _shipped(model: nn.Module, digits: Images) -> str | None:
    """The shipped model that says the same of eight images."""
    x, labels = digits.test[:8], digits.test_labels[:8]
    own = _log_prob(model, x, labels)
    for name in list_pretrained():
        if name.endswith("-digits") and torch.allclose(
            own, _log_prob(load_pretrained(name), x, labels), rtol=1e-4, atol=0
        ):
            return name
    return None


def _missing(model: nn.Module, digits: Images, bits: float) -> str:
    """What to look at first."""
    power, better = min(
        ((power, _with_power(model, digits, power)) for power in (0.1, 0.3, 3.0, 10.0)), key=lambda p: p[1]
    )
    if better < 0.9 * min(bits, _with_power(model, digits, 1.0)):
        how = "unsure" if power > 1 else "sure"
        return (
            f"It is too {how}: its own probabilities, to the power {power:g} and divided by their sum, would take "
            f"about {better:.2f}. Is something scaled that should not be, or a softmax taken twice?"
        )
    if bits > 6:
        return "That is little better than a guess among 256 levels, 8 bits, or worse: has it been trained?"
    if bits > 2.1:
        return "Without looking at any other pixel, 2.0 can be had: it has hardly begun to learn."
    if bits > 1.45:
        return "The left neighbour alone gives 1.48: what does your model see beyond it?"
    if bits > 1.3:
        return "A table of four neighbours gives 1.33: let it see further, or learn more from what it sees."
    return "A little more of the same: longer training, a few more features, or a smaller learning rate at the end."


def _with_power(model: nn.Module, digits: Images, power: float) -> float:
    """Bits per dimension of some digits, if all probabilities were raised to a power."""
    x = digits.test[:10]
    with torch.inference_mode():
        label = None if model.classes is None else digits.test_labels[:10]
        changed = model.predict(x, label).pmf().double().clamp(min=1e-300) ** power
    own = changed.gather(-1, x.long()[..., None])[..., 0] / changed.sum(-1)
    return float(-own.log2().mean())
