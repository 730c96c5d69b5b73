"""What a likelihood is worth: `bits_per_dim`, `evaluate` (`total_nats`), `total_probability`; and what a model can
score, `model_for` and `check_labels`."""

import math

import torch
from torch import Tensor, nn

from .errors import require
from .models.base import AutoregressiveModel, evaluation_mode
from .models.own import as_model
from .probes.asking import copied, image_shape, known_levels

MOST_IMAGES = 200_000


def bits_per_dim(log_prob: Tensor, images: Tensor) -> Tensor:
    """Converts log-likelihoods to bits per dimension: how many bits a value costs on average.

    Arguments:
        log_prob: nats `[N]`, natural logarithm of the probability of each whole image.
        images: the images `[N, C, H, W]`, of which only the shape counts.

    Returns:
        `[N]`, positive; 8 for a uniform guess among 256 levels.

    Raises:
        ValueError: when the two do not belong together.

    Example:
        >>> x = torch.zeros(2, 1, 4, 4)
        >>> bits_per_dim(torch.full((2,), -16 * math.log(256)), x)
        tensor([8., 8.])
    """
    require(
        images.dim() == 4 and log_prob.shape == images.shape[:1],
        f"log_prob has shape {tuple(log_prob.shape)} and images {tuple(images.shape)}: give [N] and [N, C, H, W].",
    )
    return log_prob / (-math.log(2) * images[0].numel())


@torch.no_grad()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor | None = None, *, batch_size: int = 100) -> float:
    """Scores images: the mean bits per dimension, on the device where the model is.

    Arguments:
        model: a model of the package, or a module that maps `[N, C, H, W]` to `[N, levels, H, W]`.
        images: `[N, C, H, W]`, integers in `[0, levels)`, at least one.
        labels: `[N]`, for a model with classes; others ignore them.
        batch_size: images per pass.

    Returns:
        bits per dimension, lower is better.

    Raises:
        ValueError: for images of another shape or with values off the levels, or missing labels.

    Example:
        >>> from pixelhelpers import PixelCNN
        >>> round(evaluate(PixelCNN(hidden=8, blocks=1), torch.zeros(2, 1, 4, 4, dtype=torch.uint8)))
        8
    """
    require(batch_size >= 1, f"batch_size is {batch_size}: give at least 1.")
    model = model_for(model, images, "images")
    check_labels(model, labels, images, "labels")
    with evaluation_mode(model):
        return total_nats(model, images, labels, batch_size) / (math.log(2) * images.numel())


def total_nats(model: AutoregressiveModel, images: Tensor, labels: Tensor | None, batch_size: int) -> float:
    """Adds up the negative log-likelihoods of images that have been checked."""
    device = next(model.parameters(), images).device
    total = 0.0
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        label = None if model.classes is None or labels is None else labels[part].to(device)
        total -= model.log_prob(images[part].to(device), label).sum().item()
    return total


def model_for(model: nn.Module, images: Tensor, name: str, levels: int | None = None) -> AutoregressiveModel:
    """Takes a model or a module as a model, and refuses images that it cannot score, by the name that is given."""
    require(
        images.dim() == 4 and len(images) != 0 and not images.is_floating_point(),
        f"{name} has type {images.dtype} and shape {tuple(images.shape)}: give integers [N, C, H, W], N > 0.",
    )
    model = as_model(model, levels=levels, image_channels=images.shape[1], shape=tuple(images.shape[-2:]))
    if int(images.min()) < 0 or int(images.max()) >= model.levels:
        raise ValueError(
            f"{name} has values from {int(images.min())} to {int(images.max())}, but the model knows "
            f"{model.levels} levels: give integers from 0 to {model.levels - 1}."
        )
    require(
        images.shape[1] == model.image_channels,
        f"{name} has {images.shape[1]} channels, but the model was built for {model.image_channels}: "
        f"build it with image_channels={images.shape[1]}.",
    )
    model.order(tuple(images.shape[1:]))  # refuses a size that the model cannot draw
    return model


def check_labels(model: AutoregressiveModel, labels: Tensor | None, images: Tensor, name: str) -> None:
    """Refuses labels that do not belong to the images, by the name that is given."""
    if model.classes is not None:
        if labels is not None and tuple(labels.shape) != (len(images),):
            raise ValueError(f"{name} has shape {tuple(labels.shape)}: give one per image, ({len(images)},).")
        model.labels(labels, len(images))


@torch.no_grad()
def total_probability(model: nn.Module, shape: tuple[int, ...], levels: int, label: int | None = None) -> float:
    """Adds up p(x) over every image of a tiny size.

    An honest model gives 1. A model with a type B stem sees what it predicts, so what it calls p(x)
    are not probabilities: once it copies its own value with certainty, it says p(x) = 1 of every
    image, in total 81 on 2x2 images with 3 levels; untrained it gives just some other number.

    Arguments:
        model: a model of the package, or a module that maps images `[N, C, H, W]`, floats with
            integers in `[0, levels)`, to logits `[N, levels, H, W]`, for colour
            `[N, levels, C, H, W]`.
        shape: (H, W) of grey images, or (C, H, W).
        levels: number of levels of a value, at least 2; at most 200,000 images, levels^(C H W), can be asked.
        label: class in `[0, classes)` for a model with classes: the sum is 1 for every one of them.
            None takes class 0.

    Returns:
        the sum, computed in evaluation mode, in double precision where the model admits it.

    Raises:
        ValueError: for too many images, or for other levels than a model of the package has.

    References:
        van den Oord et al. 2016, equation 1.

    Example:
        >>> from pixelhelpers.models import PixelCNN
        >>> round(total_probability(PixelCNN(levels=3, hidden=8, blocks=1), (2, 2), levels=3), 9)
        1.0
    """
    channels, height, width = shape = image_shape(model, shape)
    levels, values = known_levels(model, levels), channels * height * width
    written = values * math.log10(levels) < 15  # a number that somebody can read
    count = levels**values if written else math.inf
    require(
        count <= MOST_IMAGES,
        f"there are {levels}^{values}{f' = {count:,}' if written else ''} images of shape {shape} with {levels} "
        f"levels: take a smaller shape or fewer levels (at most {MOST_IMAGES:,} images).",
    )
    net = as_model(copied(model), levels=levels, image_channels=channels, shape=(height, width)).cpu().eval()
    label = 0 if label is None and net.classes is not None else label
    try:
        return _total(net.double(), shape, levels, label)
    except RuntimeError:  # float32 inside
        return _total(net.float(), shape, levels, label)


def _total(net: AutoregressiveModel, shape: tuple[int, int, int], levels: int, label: int | None) -> float:
    values, total = math.prod(shape), 0.0
    place = levels ** torch.arange(values)
    for numbers in torch.arange(levels**values).split(4096):
        x = (numbers[:, None] // place % levels).view(-1, *shape)
        total += float(net.log_prob(x, label).double().exp().sum())
    return total
