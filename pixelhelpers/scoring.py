"""What a likelihood is worth: `bits_per_dim`, `evaluate` (`total_nats`), `total_probability`; and what a model can
score, `model_for` and `check_labels`."""

import copy
import math

import torch
from torch import Tensor, nn

from .arguments import integers, whole
from .errors import require
from .models.base import AutoregressiveModel, evaluation_mode
from .models.own import as_model, facts_of, model_of_images, unwrapped
from .processes import Processes, together

MOST_IMAGES = 200_000
GIVE_IMAGES = "integers [N, C, H, W], N > 0"


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


def model_for(
    model: nn.Module, images: Tensor, name: str, batch_size: int = 1, classes: int | None = None
) -> AutoregressiveModel:
    """Takes a model or a module as a model, and refuses images that it cannot score, by the name that is given.

    Arguments:
        model: as for `evaluate`.
        images: what is to be scored.
        name: what to call them.
        batch_size: how many at once.
        classes: how many there are, for a module that wants a label and does not say how many it knows.
    """
    require(
        isinstance(images, Tensor) and images.dim() == 4 and len(images) != 0 and not images.is_floating_point(),
        f"{name} has type {getattr(images, 'dtype', type(images).__name__)} and shape "
        f"{tuple(getattr(images, 'shape', ()))}: give {GIVE_IMAGES}."
        + (f" Grey? {name}[:, None]." if getattr(images, "ndim", 0) == 3 else ""),
    )
    module = unwrapped(model)
    channels = (
        module.image_channels if isinstance(module, AutoregressiveModel) else facts_of(module).get("image_channels")
    )
    require(
        channels == images.shape[1] or images.shape[1] <= 4 or images.shape[3] > 4,
        f"{name} has shape {tuple(images.shape)}: channels last? give images.permute(0, 3, 1, 2), [N, C, H, W].",
    )
    model = model_of_images(module, tuple(images.shape[1:]), min(batch_size, len(images)), classes)
    if int(images.min()) < 0 or int(images.max()) >= model.levels:
        raise ValueError(
            f"{name} has values from {int(images.min())} to {int(images.max())}, but the model knows "
            f"{model.levels} levels: give integers from 0 to {model.levels - 1}."
        )
    require(
        images.shape[1] == model.image_channels,
        f"{name} has {images.shape[1]} channels, shape {tuple(images.shape)}, but the model was built for "
        f"{model.image_channels}: give images [N, {model.image_channels}, H, W], or build it with "
        f"image_channels={images.shape[1]}.",
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
        levels: number of levels of a value; at most 200,000 images, levels^(C H W), can be asked.
        label: class in `[0, classes)` for a model with classes: the sum is 1 for every one of them.
            None takes class 0.

    Returns:
        the sum, computed in double precision in evaluation mode.

    Raises:
        ValueError: for too many images, or for other levels than a model of the package has.

    References:
        van den Oord et al. 2016, equation 1.

    Example:
        >>> from pixelhelpers.models import PixelCNN
        >>> round(total_probability(PixelCNN(levels=3, hidden=8, blocks=1), (2, 2), levels=3), 9)
        1.0
    """
    channels, height, width = shape if len(shape) == 3 else (1, *shape)
    values = channels * height * width
    count = levels**values
    require(
        count <= MOST_IMAGES,
        f"there are {levels}^{values} = {count:,} images of shape {tuple(shape)} with {levels} "
        f"levels: take a smaller shape or fewer levels (at most {MOST_IMAGES:,} images).",
    )
    net = as_model(copy.deepcopy(model), levels=levels, image_channels=channels, image_size=(height, width))
    require(net.levels == levels, f"levels is {levels}, but the model was built with levels={net.levels}.")
    net = net.cpu().double().eval()
    label = 0 if label is None and net.classes is not None else label
    place, total = levels ** torch.arange(values), 0.0
    for numbers in torch.arange(count).split(4096):
        x = (numbers[:, None] // place % levels).view(-1, channels, height, width)
        total += float(net.log_prob(x, label).double().exp().sum())
    return total
