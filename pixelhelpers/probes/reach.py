"""How far does it see? `receptive_field`, `blind_spot`, `reached_window`, `effective_receptive_field`."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..arguments import integers
from ..errors import require
from ..models.own import GIVE_IMAGES, model_for
from .asking import Subject, ask, copied, inside, prepare, rank_of, set_mode, shape_of, without_zeros
from .causality import effects

AT_ONCE = 16  # images whose gradients are taken together


def receptive_field(
    model: Callable[[Tensor], Tensor],
    at: tuple[int, int],
    shape: tuple[int, int, int] | None = None,
) -> Tensor:
    """Finds the input pixels that can move the output at one pixel.

    The answer is about the architecture, not about chance: a dead ReLU in an untrained model must
    not look like a hole. So gradients of the output are taken in double precision at random images,
    first with the model's own weights, then with positive ones: absolute values, each output's
    scaled to sum to 1; what a mask set to exactly 0 stays 0; a parameter that is zero throughout
    gets random numbers. On a bright image every ReLU of that copy is open and no two paths cancel.
    A pixel counts when any gradient differs from 0. Where there is none, because the model turns
    its input into integers, values are changed one at a time as in `check_causal`, which is slower.

    Arguments:
        model: as in `check_causal`; with classes, the label is the first.
        at: (row, column) of the output pixel.
        shape: (C, H, W) of the images, or (H, W); default: the model's own channels and size if it declares them,
            else (1, 28, 28).

    Returns:
        bool `[H, W]`: whether any channel of that input pixel moves any channel of the output pixel
            (so a colour model's pixel sees itself: its R moves its B).

    Raises:
        ValueError: when `at` lies outside the image.

    Example:
        >>> from pixelhelpers.layers import MaskedConv2d
        >>> receptive_field(MaskedConv2d("A", 1, 8, 3), at=(1, 1), shape=(1, 3, 3)).int()
        tensor([[1, 1, 1],
                [1, 0, 0],
                [0, 0, 0]], dtype=torch.int32)
    """
    shape = shape_of(model, shape)
    row, column = inside(at, *shape[1:])
    subject = prepare(model, shape)
    x = subject.images(2, torch.Generator().manual_seed(0))
    seen = _felt(subject.net, subject, x, row, column)
    if isinstance(subject.net, nn.Module):
        bright = x.amax(0, keepdim=True).clamp(min=subject.levels // 2)
        seen |= _felt(_positive(subject.net), subject, bright, row, column)
    return seen.any(0)


def _felt(net: Callable, subject: Subject, x: Tensor, row: int, column: int) -> Tensor:
    """Finds the inputs that move the output at (row, column) of this very net, `[C, H, W]`."""
    set_mode(net, training=False)
    label, gradient = None if subject.labels is None else subject.labels[:1], None
    if x.is_floating_point():
        with torch.enable_grad():
            output = ask(net, x.requires_grad_(), None if label is None else label.expand(len(x)))[..., row, column]
        if output.requires_grad:
            # Random weights, because the sum of a model's probabilities never moves.
            weights = torch.rand(output.shape, generator=torch.Generator().manual_seed(0))
            (gradient,) = torch.autograd.grad(output, x, weights.to(output), allow_unused=True)
    if gradient is not None and gradient.isfinite().all():
        return (gradient != 0).any(0)
    effect, _ = effects(net, False, subject.images, label)
    return effect.view(-1, *x.shape[1:])[..., row, column].any(1).view(x.shape[1:])


@torch.no_grad()
def _positive(net: nn.Module) -> nn.Module:
    """Copies the net with positive weights: nothing is shut by chance and no paths cancel."""
    net = without_zeros(net)
    for value in net.parameters():
        value.abs_()
        if value.dim() > 1:
            value /= value.flatten(1).sum(1).clamp(min=1e-300).view(-1, *[1] * (value.dim() - 1))
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    return net


def blind_spot(
    model: Callable[[Tensor], Tensor],
    at: tuple[int, int],
    shape: tuple[int, int, int] | None = None,
) -> Tensor:
    """Finds the holes: earlier pixels inside the reached window that the output at one pixel never sees.

    Stacked raster masks lose a corner above and to the right, however many layers there are. Pixels
    beyond the reached window are no holes: more layers would reach them.

    Arguments:
        model: as in `check_causal`; with classes, the label is the first.
        at: (row, column) of the output pixel.
        shape: (C, H, W) of the images, or (H, W); default: the model's own channels and size if it declares them,
            else (1, 28, 28).

    Returns:
        bool `[H, W]`: pixels of `reached_window` that are drawn before `at`, by the model's own order
            if it has one, else in raster order, and that `receptive_field` does not contain.

    Raises:
        ValueError: when `at` lies outside the image.

    References:
        van den Oord et al. 2016 (PixelCNN Decoders), section 2.2 and figure 1.

    Example:
        >>> from pixelhelpers.layers import MaskedConv2d
        >>> layers = nn.Sequential(MaskedConv2d("A", 1, 4, 3), MaskedConv2d("B", 4, 1, 3))
        >>> blind_spot(layers, at=(2, 2), shape=(1, 4, 5)).int()
        tensor([[0, 0, 0, 0, 0],
                [0, 0, 0, 0, 1],
                [0, 0, 0, 0, 0],
                [0, 0, 0, 0, 0]], dtype=torch.int32)
    """
    shape = shape_of(model, shape)
    seen = receptive_field(model, at, shape)
    rank = rank_of(model, shape, None)
    earlier = rank.amax(0) < rank[:, at[0], at[1]].amin()
    return reached_window(seen, at) & earlier & ~seen


def reached_window(seen: Tensor, at: tuple[int, int]) -> Tensor:
    """Gives the smallest window around a pixel that holds all it sees, as wide to its right as to its left.

    As wide on both sides, because a network that cannot look to the right at all is blind there too.

    Arguments:
        seen: bool `[H, W]`, e.g. from `receptive_field`.
        at: (row, column) of the pixel.

    Returns:
        bool `[H, W]`: the rows from the first to the last one seen, that of the pixel included, and of
            these rows the columns that are no further away than the furthest one seen.

    Example:
        >>> seen = torch.zeros(3, 5, dtype=torch.bool)
        >>> seen[0, 1] = True
        >>> reached_window(seen, at=(1, 2)).int()
        tensor([[0, 1, 1, 1, 0],
                [0, 1, 1, 1, 0],
                [0, 0, 0, 0, 0]], dtype=torch.int32)
    """
    place = torch.tensor([at])
    down, across = (torch.cat([seen.nonzero(), place]) - place).T
    rows, columns = (torch.arange(side) - middle for side, middle in zip(seen.shape, at, strict=True))
    return ((rows >= down.min()) & (rows <= down.max()))[:, None] & (columns.abs() <= across.abs().max())


def effective_receptive_field(
    model: nn.Module,
    images: Tensor,
    at: tuple[int, int],
    label: int | Tensor | None = None,
) -> Tensor:
    """Measures how much each input pixel moves the prediction at one pixel: seeing is not using.

    What is predicted there is the true level's log-probability, the quantity that training raises; its
    gradient says by how many nats a pixel that is one level brighter would change it.

    Arguments:
        model: a model of the package, or a module that maps images `[N, C, H, W]` to logits
            `[N, levels, H, W]`, for colour `[N, levels, C, H, W]`.
        images: integers `[N, C, H, W]`, values in `[0, levels)`; a tensor or an array of NumPy.
        at: (row, column) of the pixel that is predicted (in colour: all its channels).
        label: class or classes `[N]`, for a model with classes.

    Returns:
        float `[H, W]`: the mean over images of the absolute gradient, added up over channels.

    Raises:
        ValueError: when `at` lies outside the images, or when the model has no gradient because it
            turns its input into integers.

    References:
        Luo et al., "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks",
        2016 (there the gradient of one output unit), https://arxiv.org/abs/1701.04128

    Example:
        >>> from pixelhelpers.models import PixelCNN
        >>> images = torch.randint(256, (4, 1, 9, 9))
        >>> weight = effective_receptive_field(PixelCNN(hidden=8, blocks=1), images, at=(4, 4))
        >>> bool((weight[:4] > 0).any()), bool((weight[5:] > 0).any())
        (True, False)
    """
    images = integers("images", images, GIVE_IMAGES)
    net = model_for(copied(model), images, "images", AT_ONCE).cpu().float().eval().requires_grad_(False)
    height, width = images.shape[-2:]
    row, column = inside(at, height, width)
    label = net.labels(label, len(images))
    total = torch.zeros(height, width)
    for part in torch.arange(len(images)).split(AT_ONCE):
        levels = images[part].cpu()
        with torch.enable_grad():
            x = levels.float().requires_grad_()
            prediction = net.predict(x, None if label is None else label[part], at=(row, column, slice(None)))
            nats = prediction.log_prob(levels[:, :, row, column].long()).sum()
        gradient = torch.autograd.grad(nats, x, allow_unused=True)[0] if nats.requires_grad else None
        require(
            gradient is not None,
            f"{type(model).__name__} has no gradient with respect to its input: it turns images into integers, "
            "or ignores them. `receptive_field` asks such a model, too.",
        )
        total += gradient.abs().sum((0, 1))
    return total / len(images)
