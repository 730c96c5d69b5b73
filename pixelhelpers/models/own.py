"""A learner's own module: `OwnModule` makes it answer like a model, `as_model` takes both, `unwrapped` opens them."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import require
from ..files import write_weights
from .base import AutoregressiveModel, evaluation_mode
from .heads import SoftmaxHead


class OwnModule(AutoregressiveModel, loadable=False):
    """A learner's own module, made to answer like a model of the package.

    Arguments:
        module: maps images `[N, C, H, W]`, given as floats in `[0, levels)`, to logits `[N, levels, H, W]`,
            for colour `[N, levels, C, H, W]`.
        levels: number of levels of a value.
        image_channels: number of image channels C.
        image_size: side in pixels that `sample` takes when it is not told another.
    """

    head = SoftmaxHead  # the class: reading logits needs no layers

    def __init__(self, module: nn.Module, levels: int, image_channels: int, image_size: int):
        super().__init__(levels=levels, image_channels=image_channels, image_size=image_size, classes=None)
        self.module = module

    def forward(self, x: Tensor, label: None = None) -> Tensor:
        self.labels(label, len(x))  # refuses one
        parameter = next(self.module.parameters(), None)
        logits = self.module(x.to(torch.get_default_dtype() if parameter is None else parameter.dtype))
        expected = (len(x), self.levels, *x.shape[2 if self.image_channels == 1 else 1 :])
        require(
            logits.shape == expected,
            f"{type(self.module).__name__} maps images {tuple(x.shape)} to {tuple(logits.shape)}: "
            f"logits must have shape {expected} (images, levels, …).",
        )
        return logits

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes the module's own `state_dict` as `model.safetensors`; rebuilding the module is the learner's."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_weights(folder / "model.safetensors", self.module.state_dict())


def unwrapped(module: nn.Module) -> nn.Module:
    """Gives the module that `torch.compile` or `DataParallel` has wrapped: they hide what a model can do.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> unwrapped(nn.DataParallel(layer)) is layer
        True
    """
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module = module.module
    return getattr(module, "_orig_mod", module)


def as_model(
    module: nn.Module, *, levels: int | None = None, image_channels: int = 1, shape: tuple[int, int] = (28, 28)
) -> AutoregressiveModel:
    """Takes a model of the package as it is and wraps any other module as `OwnModule`.

    Arguments:
        module: a model, or a module that maps images `[N, C, H, W]` to logits `[N, levels, H, W]`.
        levels: number of levels of a value; None asks the module, by passing it one image.
        image_channels: number of their channels.
        shape: (height, width) of the images in pixels.

    Raises:
        TypeError: when it is not a module at all.
    """
    module = unwrapped(module)
    if isinstance(module, AutoregressiveModel):
        return module
    require(isinstance(module, nn.Module), f"model is a {type(module).__name__}: give a torch.nn.Module.", TypeError)
    if levels is None:
        parameter = next(module.parameters(), torch.zeros(()))
        with evaluation_mode(module), torch.no_grad():
            levels = module(parameter.new_zeros(1, image_channels, *shape)).shape[1]
    return OwnModule(module, levels, image_channels, image_size=shape[1])
