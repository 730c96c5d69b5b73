"""PixelCNN and its successors: causal layers, exact likelihoods, samplers, and questions to ask of them.

Everything a notebook needs is here under one name: `import pixelhelpers as ph`. Plots, widgets and
exercises, with the libraries that they need, load when they are first used.
"""

import importlib
from typing import Any

from . import data, distributions, layers, models, probes, sampling, training
from .data import DataError, Images, load_images
from .layers import DownRightShiftedConv2d, DownShiftedConv2d, GatedBlock, MaskedConv2d, ResidualBlock
from .models import (
    GatedPixelCNN,
    MultiscalePixelCNN,
    PixelCNN,
    PixelCNNPlusPlus,
    PixelSNAIL,
    list_pretrained,
    load_pretrained,
)
from .probes import (
    CausalityError,
    blind_spot,
    check_causal,
    effective_receptive_field,
    nearest_neighbours,
    receptive_field,
    total_probability,
)
from .sampling import image_grid, sample
from .training import History, bits_per_dim, default_device, evaluate, fit

__version__ = "0.1.0"
__all__ = [
    "CausalityError",
    "DataError",
    "DownRightShiftedConv2d",
    "DownShiftedConv2d",
    "GatedBlock",
    "GatedPixelCNN",
    "History",
    "Images",
    "MaskedConv2d",
    "MultiscalePixelCNN",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "PixelSNAIL",
    "ResidualBlock",
    "bits_per_dim",
    "blind_spot",
    "check_causal",
    "data",
    "default_device",
    "distributions",
    "effective_receptive_field",
    "evaluate",
    "exercises",
    "fit",
    "image_grid",
    "layers",
    "list_pretrained",
    "load_images",
    "load_pretrained",
    "models",
    "nearest_neighbours",
    "plots",
    "probes",
    "receptive_field",
    "sample",
    "sampling",
    "total_probability",
    "training",
    "widgets",
]

_ON_FIRST_USE = ("exercises", "plots", "widgets")


def __getattr__(name: str) -> Any:
    if name in _ON_FIRST_USE:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
