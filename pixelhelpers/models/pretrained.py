"""The weights that come with the package: `list_pretrained` names them, `load_pretrained` loads one."""

from pathlib import Path

from ..errors import require
from .base import AutoregressiveModel

PRETRAINED = Path(__file__).parents[1] / "pretrained"


def list_pretrained() -> list[str]:
    """Lists the names of the weights that come with the package.

    Example:
        >>> "pixelcnn-digits" in list_pretrained()
        True
    """
    return sorted(path.parent.name for path in PRETRAINED.glob("*/config.json"))


def load_pretrained(name: str) -> AutoregressiveModel:
    """Loads weights that come with the package, with their training record as `.card`.

    Arguments:
        name: one of `list_pretrained()`.

    Returns:
        the model in evaluation mode, on the CPU.

    Raises:
        ValueError: for another name.

    Example:
        >>> model = load_pretrained("pixelcnn-digits")
        >>> model.card["data"]
        'digits'
    """
    require(
        name in list_pretrained(),
        f"no weights are called {name!r}; there are: {', '.join(list_pretrained())}. Weights in a folder of your own: "
        "PixelCNN.from_pretrained(folder), or whatever their class is.",
    )
    return AutoregressiveModel.from_pretrained(PRETRAINED / name)
