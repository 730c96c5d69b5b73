"""Draw README's first picture: four images of each class of clothes, painted by the shipped PixelCNN++.

python tools/front_picture.py    writes .github/front.png

They are the first four columns of `.github/classes-plusplus.png`, turned: nobody chose among them.
"""

from pathlib import Path

import torch
from torch import Tensor

import pixelhelpers as ph

PICTURE = Path(__file__).resolve().parent.parent / ".github" / "front.png"
NAMES = ("T-shirt", "Trousers", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
OF_EACH, SHOWN = 8, 4


def paint() -> Tensor:
    """The images of the picture `[SHOWN, 10, 1, 28, 28]`: a class in each column."""
    label = torch.arange(len(NAMES)).repeat_interleave(OF_EACH)
    images = ph.sample(ph.load_pretrained("plusplus-fashion-mnist"), len(label), label=label, seed=0)
    return images.unflatten(0, (len(NAMES), OF_EACH))[:, :SHOWN].transpose(0, 1)


def draw(images: Tensor):
    """A grid with the name of each class above its column."""
    grid = ph.grids.image_grid(images.flatten(0, 1), columns=len(NAMES))
    height, width = grid.shape[1:]
    figure, axis = ph.plots.subplots(size=(7.6, 7.6 * height / width + 0.2))
    axis.imshow(grid.movedim(0, -1).numpy())
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0, labeltop=True, labelbottom=False, labelsize=9)
    columns = torch.arange(len(NAMES)) + 0.5
    axis.set_xticks((columns * width / len(NAMES)).tolist(), NAMES)
    axis.set_yticks([])
    return figure


if __name__ == "__main__":
    PICTURE.write_bytes(ph.plots.png(draw(paint())))
    print(f"README's first picture is in {PICTURE}")
