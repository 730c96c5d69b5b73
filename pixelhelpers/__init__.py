"""PixelCNN and its successors: causal layers, exact likelihoods, samplers, and questions to ask of them.

Everything a notebook needs is here under one name: `import pixelhelpers as ph`. Plots, widgets and
exercises, with the libraries that they need, load when they are first used.
"""

import importlib
from typing import Any

from . import (
    data,
    distributions,
    grids,
    hardware,
    judging,
    layers,
    models,
    probes,
    processes,
    records,
    rewriting,
    sampling,
    scoring,
    training,
)
from .checking import check_model
from .data import DataError, Images, load_images
from .errors import CausalityError, ModelError
from .grids import image_grid
from .hardware import default_device
from .judging import load_judge
from .layers import DownRightShiftedConv2d, DownShiftedConv2d, MaskedConv2d
from .models import (
    GatedBlock,
    GatedPixelCNN,
    MultiscalePixelCNN,
    PixelCNN,
    PixelCNNPlusPlus,
    PixelSNAIL,
    ResidualBlock,
    as_model,
    list_pretrained,
    load_pretrained,
)
from .probes import (
    blind_spot,
    check_causal,
    effective_receptive_field,
    nearest_neighbours,
    receptive_field,
)
from .records import list_records, record
from .sampling import sample
from .scoring import bits_per_dim, evaluate, total_probability
from .training import History, fit

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
    "ModelError",
    "MultiscalePixelCNN",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "PixelSNAIL",
    "ResidualBlock",
    "as_model",
    "bits_per_dim",
    "blind_spot",
    "check_causal",
    "check_model",
    "data",
    "default_device",
    "distributions",
    "effective_receptive_field",
    "evaluate",
    "exercises",
    "fit",
    "grids",
    "hardware",
    "image_grid",
    "judging",
    "layers",
    "list_pretrained",
    "list_records",
    "load_images",
    "load_judge",
    "load_pretrained",
    "models",
    "nearest_neighbours",
    "plots",
    "probes",
    "processes",
    "receptive_field",
    "record",
    "records",
    "rewriting",
    "sample",
    "sampling",
    "scoring",
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
