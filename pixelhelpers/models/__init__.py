"""One file per paper; `base` holds what the models share."""

from .base import list_pretrained, load_pretrained
from .pixelcnn import PixelCNN

__all__ = ["PixelCNN", "list_pretrained", "load_pretrained"]
