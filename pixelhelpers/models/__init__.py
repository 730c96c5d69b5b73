"""One file per paper; `base` holds what the models share."""

from .base import list_pretrained, load_pretrained
from .gated import GatedPixelCNN
from .pixelcnn import PixelCNN
from .plusplus import PixelCNNPlusPlus

__all__ = ["GatedPixelCNN", "PixelCNN", "PixelCNNPlusPlus", "list_pretrained", "load_pretrained"]
