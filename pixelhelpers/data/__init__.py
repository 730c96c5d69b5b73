"""Images in: `Images`, `load_images` for published sets and the bundled digits, `coloured`, `random_shift`."""

from ..errors import DataError
from .changes import coloured, random_shift
from .images import Images
from .published import load_images

__all__ = ["DataError", "Images", "coloured", "load_images", "random_shift"]
