"""One file per paper; `base` holds what the models share."""

from .attention import PixelSNAIL
from .base import list_pretrained, load_pretrained
from .gated import GatedPixelCNN
from .multiscale import MultiscalePixelCNN
from .pixelcnn import PixelCNN
from .plusplus import PixelCNNPlusPlus

__all__ = [
    "GatedPixelCNN",
    "MultiscalePixelCNN",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "PixelSNAIL",
    "list_pretrained",
    "load_pretrained",
]
