"""The models, one file a paper: `PixelCNN` and its successors, and the weights that come with the package."""

from .attention import PixelSNAIL
from .gated import GatedBlock, GatedPixelCNN
from .multiscale import MultiscalePixelCNN
from .pixelcnn import PixelCNN, ResidualBlock
from .plusplus import PixelCNNPlusPlus
from .pretrained import list_pretrained, load_pretrained

__all__ = [
    "GatedBlock",
    "GatedPixelCNN",
    "MultiscalePixelCNN",
    "PixelCNN",
    "PixelCNNPlusPlus",
    "PixelSNAIL",
    "ResidualBlock",
    "list_pretrained",
    "load_pretrained",
]
