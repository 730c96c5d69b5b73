"""A small classifier that looks at images (`Judge`, `load_judge`): the class that it recognises, and its features."""

from pathlib import Path

from torch import Tensor, nn

from .errors import require
from .files import read_weights

_WEIGHTS = Path(__file__).parent / "pretrained"


class Judge(nn.Module):
    """A convolutional classifier of grey images of 28×28 pixels, which gives the features that it decides by as well.

    Arguments:
        classes: how many there are.

    Example:
        >>> import torch
        >>> judge = Judge()
        >>> images = torch.zeros(2, 1, 28, 28, dtype=torch.uint8)
        >>> judge(images).shape, judge.features(images).shape
        (torch.Size([2, 10]), torch.Size([2, 64]))
    """

    def __init__(self, classes: int = 10):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Conv2d(64, 64, 3), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True), nn.Flatten()),
            *(nn.Dropout(0.3), nn.Linear(64 * 3 * 3, 64), nn.ReLU()),
        )
        self.name = nn.Linear(64, classes)

    def features(self, images: Tensor) -> Tensor:
        """What the last hidden layer makes of images of 256 levels: `[N, 1, 28, 28]` to `[N, 64]`, not negative."""
        return self.layers(images.float() / 255)

    def forward(self, images: Tensor) -> Tensor:
        """The logits of the classes, `[N, classes]`."""
        return self.name(self.features(images))


def load_judge(data: str = "fashion-mnist") -> Judge:
    """Loads a classifier of real images that comes with the package, to compare samples with real images.

    It was trained on the same training images as the models (`benchmarks/judge.py`), and no generated image.

    Arguments:
        data: "fashion-mnist" or "digits".

    Returns:
        the classifier in evaluation mode, on the CPU.

    Raises:
        ValueError: for another name.

    Example:
        >>> from pixelhelpers import load_images
        >>> images = load_images("digits")
        >>> named = load_judge("digits")(images.valid).argmax(1)
        >>> bool((named == images.valid_labels).float().mean() > 0.95)
        True
    """
    known = sorted(path.stem.removeprefix("judge-") for path in _WEIGHTS.glob("judge-*.safetensors"))
    require(data in known, f"there is no judge of {data!r}; there are: {', '.join(known)}.")
    judge = Judge()
    judge.load_state_dict(
        {name: weight.float() for name, weight in read_weights(_WEIGHTS / f"judge-{data}.safetensors").items()}
    )
    return judge.eval()
