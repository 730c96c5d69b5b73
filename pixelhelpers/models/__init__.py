"""The models, one file a paper: `PixelCNN` and its successors, the weights that come with the package, and
`as_model`, for a module of one's own."""

from .attention import PixelSNAIL
from .gated import GatedBlock, GatedPixelCNN
from .multiscale import MultiscalePixelCNN
from .own import as_model
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
    "as_model",
    "list_pretrained",
    "load_pretrained",
]
