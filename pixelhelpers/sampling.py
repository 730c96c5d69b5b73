"""Drawing images from a model, one value after the other, exactly.

One uniform number per value is drawn first and turned into a level by the inverse of the conditional's
cumulative distribution. So an image is a function of its numbers: whatever draws it, in whatever batch,
gets the same one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .models.base import AutoregressiveModel, as_model
from .progress import progress_bar

METHODS = ("auto", "naive", "cropped")
CHUNK = 128  # images that are drawn together: bounds the memory, changes no image


def sample(
    model: nn.Module,
    count: int,
    *,
    method: str = "auto",
    shape: tuple[int, int] | None = None,
    temperature: float = 1.0,
    top_p: float | None = None,
    greedy: bool = False,
    given: Tensor | None = None,
    known: Tensor | None = None,
    label: int | Tensor | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> Tensor:
    """Draws images, value by value in the model's order, on the device where the model is.

    With `given` and `known`, images are completed: known values are kept, the others drawn. That is an
    exact draw from p(unknown | known) when the known values come first in the model's order; a line says
    so when they do not, since a value cannot take later ones into account.

    Arguments:
        model: a model of the package, or a module that maps `[N, C, H, W]` to `[N, levels, H, W]`.
        count: number of images, at least 1.
        method: "naive" (one forward pass over whole images per value), "cropped" (the same, over the rows
            down to that value's), or "auto" (the fastest that the model allows).
        shape: (height, width) in pixels; default: that of `given`, else the model's `image_size`.
        temperature: conditionals are raised to 1/temperature and normalised; above 0, 1 leaves them alone.
        top_p: draw only among the most likely levels that together reach this probability, in (0, 1].
        greedy: take the most likely level instead (the lowest of equals).
        given: images to complete, uint8 `[C, H, W]` or `[count, C, H, W]`.
        known: which of their values to keep, bool `[H, W]`, `[C, H, W]` or `[count, C, H, W]`.
        label: class or classes `[count]`, for a model with classes.
        seed: same seed, same images; image k depends on seed and k only. None takes one from PyTorch's
            global generator.
        progress: show a progress bar.

    Returns:
        uint8 `[count, C, H, W]`, values in `[0, levels)`, on the CPU.

    Raises:
        ValueError: for arguments off their range or shape, before anything is drawn.

    References:
        van den Oord et al. 2016, section 2 (equations 1 and 2: the order of drawing).

    Example:
        >>> from pixelhelpers import PixelCNN
        >>> model = PixelCNN(levels=4, hidden=8, blocks=1, image_size=5)
        >>> images = sample(model, 2, seed=0, progress=False)
        >>> images.shape, images.dtype
        (torch.Size([2, 1, 5, 5]), torch.uint8)
        >>> bool((images == sample(model, 3, seed=0, progress=False)[:2]).all())
        True
    """
    _check_options(count, method, temperature, top_p)
    if method == "auto":
        method = "cropped" if getattr(model, "any_height", False) else "naive"
    channels, (height, width) = _canvas_shape(model, shape, given)
    if not isinstance(model, AutoregressiveModel):
        model = as_model(model, levels=None, image_channels=channels, image_size=height)
    canvas, kept = _start(count, (channels, height, width), given, known, model.levels)
    label = model.labels(label, count)
    order = model.order((channels, height, width))
    if kept is not None and not _come_first(kept, order):
        print("Known values that come later in the drawing order are ignored while earlier ones are drawn.")
    if seed is None:
        seed = int(torch.randint(2**62, ()))
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(count, channels, height, width, dtype=torch.float64, generator=generator)

    device = next(model.parameters(), canvas).device
    was_training = model.training
    model.eval()
    passes = -(-count // CHUNK) * len(order.unique())
    bar = progress_bar(passes, "pass", shown=progress, desc=f"{count} images", leave=False)
    try:
        with _full_precision(device), torch.inference_mode():
            for start in range(0, count, CHUNK):
                part = slice(start, start + CHUNK)
                x = canvas[part].to(device)
                for positions in _groups(order):
                    bar.update()
                    if kept is not None and all(bool(kept[part, c, r, w].all()) for r, w, c in positions):
                        continue
                    pmf = _conditionals(
                        model, x, None if label is None else label[part], positions, method == "cropped"
                    )
                    rows, columns, values = zip(*positions, strict=True)
                    numbers = uniform[part, values, rows, columns]
                    drawn = draw(pmf, numbers, temperature=temperature, top_p=top_p, greedy=greedy).to(x)
                    if kept is not None:
                        keep = kept[part, values, rows, columns].to(device)
                        drawn = torch.where(keep, x[:, values, rows, columns], drawn)
                    x[:, values, rows, columns] = drawn
                canvas[part] = x.cpu()
    finally:
        bar.close()
        model.train(was_training)
    return canvas


def draw(
    pmf: Tensor,
    uniform: Tensor,
    *,
    temperature: float = 1.0,
    top_p: float | None = None,
    greedy: bool = False,
) -> Tensor:
    """Turns one uniform number per value into a level: the smallest v with CDF(v) > u.

    Arguments:
        pmf: probabilities `[..., levels]`.
        uniform: numbers in [0, 1), `[...]`.
        temperature: exponent 1/temperature on the probabilities, then normalised; above 0.
        top_p: after that, keep only the most likely levels that together reach this probability.
        greedy: take the most likely level (the lowest of equals) and ignore `uniform`.

    Returns:
        int64 levels `[...]`, never one without probability.

    References:
        Devroye, "Non-Uniform Random Variate Generation", 1986, section III.2 (inversion);
        Holtzman et al., "The Curious Case of Neural Text Degeneration", 2020, section 3.1 (top-p),
        https://arxiv.org/abs/1904.09751

    Example:
        >>> pmf = torch.tensor([0.25, 0.25, 0.5])
        >>> [int(draw(pmf, torch.tensor(u))) for u in (0.0, 0.25, 0.49, 0.5, 0.99)]
        [0, 1, 1, 2, 2]
        >>> int(draw(pmf, torch.tensor(0.0), greedy=True))
        2
    """
    levels = torch.arange(pmf.shape[-1], device=pmf.device)
    if greedy:
        most = pmf == pmf.amax(-1, keepdim=True)
        return torch.where(most, levels, pmf.shape[-1]).amin(-1)
    if pmf.device.type == "mps":  # which has no float64
        pmf, levels = pmf.cpu(), levels.cpu()
    pmf = pmf.double()
    if temperature != 1:
        pmf = (pmf.log() / temperature).softmax(-1)
    if top_p is not None:
        likely, level = torch.sort(pmf, dim=-1, descending=True, stable=True)
        needed = likely.cumsum(-1) - likely < top_p
        pmf = torch.zeros_like(pmf).scatter(-1, level, likely * needed)
        pmf = pmf / pmf.sum(-1, keepdim=True)
    cdf = pmf.cumsum(-1)
    level = torch.searchsorted(cdf, uniform.to(cdf)[..., None].contiguous(), right=True)[..., 0]
    last_with_mass = torch.where(pmf > 0, levels, 0).amax(-1)
    return level.minimum(last_with_mass)


def image_grid(images: Tensor, columns: int = 8, levels: int = 256) -> Tensor:
    """Lays images out in a grid of floats in [0, 1], as torchvision and matplotlib show them.

    Arguments:
        images: integers `[N, C, H, W]`, values in `[0, levels)`.
        columns: images per row.
        levels: number of levels.

    Returns:
        float `[3, height, width]`, with a border of two pixels around each image.

    Example:
        >>> image_grid(torch.zeros(16, 1, 28, 28, dtype=torch.uint8)).shape
        torch.Size([3, 62, 242])
    """
    from torchvision.utils import make_grid

    return make_grid(images.float() / (levels - 1), nrow=columns, pad_value=0.5)


def save_grid(images: Tensor, path: str | os.PathLike, columns: int = 8, levels: int = 256, zoom: int = 3) -> None:
    """Writes images as one PNG file, enlarged without smoothing.

    Arguments:
        images: integers `[N, C, H, W]`, values in `[0, levels)`.
        path: the file to write.
        columns: images per row.
        levels: number of levels.
        zoom: screen pixels per image pixel, at least 1.

    Example:
        >>> import tempfile
        >>> file = os.path.join(tempfile.mkdtemp(), "grid.png")
        >>> save_grid(torch.zeros(2, 1, 28, 28, dtype=torch.uint8), file)
    """
    from torchvision.utils import save_image

    save_image(image_grid(images, columns, levels).repeat_interleave(zoom, 1).repeat_interleave(zoom, 2), path)


# -- what happens inside ------------------------------------------------------------------------------


def _check_options(count: int, method: str, temperature: float, top_p: float | None) -> None:
    if count < 1:
        raise ValueError(f"count is {count}: give at least 1.")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}: give one of {', '.join(METHODS)}.")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: give a number above 0, or greedy=True for the limit 0.")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}: give a number in (0, 1].")


def _canvas_shape(model: nn.Module, shape, given) -> tuple[int, tuple[int, int]]:
    if given is not None and (given.dim() not in (3, 4) or given.is_floating_point()):
        raise ValueError(
            f"given has type {given.dtype} and shape {tuple(given.shape)}: give integers [C, H, W] or [count, C, H, W]."
        )
    size = getattr(model, "image_size", 28)
    if shape is None:
        shape = (size, size) if given is None else tuple(given.shape[-2:])
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"shape is {tuple(shape)}: give (height, width) in pixels.")
    if given is not None and tuple(given.shape[-2:]) != tuple(shape):
        raise ValueError(f"shape is {tuple(shape)}, but given has {tuple(given.shape[-2:])}: leave shape out.")
    channels = getattr(model, "image_channels", 1 if given is None else given.shape[-3])
    if given is not None and given.shape[-3] != channels:
        raise ValueError(f"given has {given.shape[-3]} channels, the model draws {channels}.")
    return channels, tuple(shape)


def _start(count, shape, given, known, levels) -> tuple[Tensor, Tensor | None]:
    """The canvas, all zero but for known values, and which values are to be kept (None: none)."""
    canvas = torch.zeros(count, *shape, dtype=torch.uint8)
    if given is None and known is None:
        return canvas, None
    if given is None or known is None:
        raise ValueError("given and known belong together: the images, and which of their values to keep.")
    if known.dtype != torch.bool or known.dim() not in (2, 3, 4):
        raise ValueError(
            f"known has type {known.dtype} and shape {tuple(known.shape)}: give bool [H, W], [C, H, W] or "
            "[count, C, H, W]."
        )
    try:
        given, kept = given.cpu().expand(count, *shape), known.cpu().expand(count, *shape)
    except RuntimeError:
        raise ValueError(
            f"given {tuple(given.shape)} and known {tuple(known.shape)} do not fit {count} images of "
            f"[C, H, W] = {list(shape)}."
        ) from None
    values = given[kept]
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < levels:
        raise ValueError(
            f"known values run from {int(values.min())} to {int(values.max())}: the model knows 0 … {levels - 1}."
        )
    canvas[kept] = values.to(torch.uint8)
    return canvas, kept


def _come_first(kept: Tensor, order: Tensor) -> bool:
    """Whether, in every image, no known value comes after one that is still to be drawn."""
    last_known = torch.where(kept, order, -1).flatten(1).amax(1)
    first_drawn = torch.where(kept, order.max() + 1, order).flatten(1).amin(1)
    return bool((last_known < first_drawn).all())


def _groups(order: Tensor) -> Iterator[list[tuple[int, int, int]]]:
    """The (row, column, channel) of values that are drawn together, group after group."""
    ranks, at = order.flatten().sort(stable=True)
    for group in at.split(ranks.unique_consecutive(return_counts=True)[1].tolist()):
        channel, row, column = torch.unravel_index(group, order.shape)
        yield list(zip(row.tolist(), column.tolist(), channel.tolist(), strict=True))


def _conditionals(model, x: Tensor, label: Tensor | None, positions: list, cropped: bool) -> Tensor:
    """The probabilities `[N, positions, levels]` of one group of values: one forward pass."""
    if cropped:  # a causal model would not look at the rows below
        x = x[:, :, : max(row for row, _, _ in positions) + 1]
    if len(positions) == 1:
        return model.predict(x, label, at=positions[0]).pmf()[:, None]
    rows, columns, channels = zip(*positions, strict=True)
    return model.predict(x, label).pmf()[:, channels, rows, columns]


@contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Switches autocast and the short formats that stand in for float32 (TF32, bfloat16) off."""
    matmul = torch.get_float32_matmul_precision()
    convolution = torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = convolution
