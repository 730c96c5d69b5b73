"""What a likelihood is worth: `bits_per_dim`, `evaluate` (`total_nats`, `check_labels`), and `total_probability`."""

import math

import torch
from torch import Tensor, nn

from .arguments import integers, whole
from .errors import require
from .models.base import AutoregressiveModel, at_least, evaluation_mode
from .models.own import GIVE_IMAGES, OwnModule, as_model, model_for, takes_label
from .probes.asking import copied, shape_of
from .processes import Processes, together

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

    Processes of `torchrun` share the images, and each returns the mean over them all.

    Arguments:
        model: a model of the package, or a module of your own as `as_model` takes it.
        images: `[N, C, H, W]`, integers in `[0, levels)`, at least one; a tensor, or an array of NumPy.
        labels: `[N]`, for a model with classes; others ignore them.
        batch_size: images per pass.

    Returns:
        bits per dimension, lower is better.

    Raises:
        ValueError: for images of another shape or with values off the levels, or missing labels.

    Example:
        >>> from pixelhelpers import PixelCNN
        >>> _ = torch.manual_seed(0)
        >>> round(evaluate(PixelCNN(hidden=8, blocks=1), torch.zeros(2, 1, 4, 4, dtype=torch.uint8)))
        8
    """
    batch_size = whole("batch_size", batch_size)
    require(batch_size >= 1, f"batch_size is {batch_size}: give at least 1.")
    images = integers("images", images, GIVE_IMAGES)
    labels = None if labels is None else integers("labels", labels, "a class for each image, [N]")
    model = model_for(model, images, "images", batch_size)
    check_labels(model, labels, images, "labels")
    processes = together("evaluate", model=model, images=images, labels=labels)
    with evaluation_mode(model):
        return total_nats(model, images, labels, batch_size, processes) / (math.log(2) * images.numel())


def total_nats(
    model: AutoregressiveModel, images: Tensor, labels: Tensor | None, batch_size: int, processes: Processes
) -> float:
    """Adds up the negative log-likelihoods of images that have been checked; processes share them."""
    device = next(model.parameters(), images).device
    total, mine = torch.zeros((), dtype=torch.float64), processes.share(len(images))
    for start in range(mine.start, mine.stop, batch_size):
        part = slice(start, min(start + batch_size, mine.stop))
        label = None if model.classes is None or labels is None else labels[part].to(device)
        total -= model.log_prob(images[part].to(device), label).sum().item()
    return float(processes.sum(total))


def check_labels(model: AutoregressiveModel, labels: Tensor | None, images: Tensor, name: str) -> None:
    """Refuses labels that do not belong to the images, by the name that is given."""
    module = model.module if isinstance(model, OwnModule) and model.classes is None else None
    require(
        labels is None or module is None or not takes_label(module),
        f"{name} are given, {type(module).__name__}.forward takes a label, and nobody says how many classes there "
        "are: say as_model(module, classes=…), or leave the labels out.",
    )
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
    channels, height, width = shape = shape_of(model, shape)
    levels, values = whole("levels", levels), channels * height * width
    at_least(2, levels=levels)
    written = values * math.log10(levels) < 15  # a number that somebody can read
    count = levels**values if written else math.inf
    require(
        count <= MOST_IMAGES,
        f"there are {levels}^{values}{f' = {count:,}' if written else ''} images of shape {shape} with {levels} "
        f"levels: take a smaller shape or fewer levels (at most {MOST_IMAGES:,} images).",
    )
    net = as_model(copied(model), levels=levels, image_channels=channels, image_size=(height, width)).cpu().eval()
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
