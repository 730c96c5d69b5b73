"""Two games for a class: a `Game` deals, `WhoPaintedIt` images and `GuessThePixel` pixels; `who_painted_it` and
`guess_the_pixel` show them.
"""

from collections.abc import Callable, Sequence

import ipywidgets
import torch
from torch import Tensor, nn

from ..data import Images
from ..errors import require
from ..models.base import evaluation_mode
from ..sampling import sample
from .live import Desk, Latest, Models, as_bytes, live, picture_of


class Game(Desk):
    """What the games share: models and pictures to choose from, and a deal in a thread.

    Arguments:
        model, images: as for `who_painted_it`.
        sentence: what stands below the picture where the game cannot be played.
    """

    answers = ("deal",)

    def __init__(self, model: nn.Module | None, images: Images | None, sentence: str):
        self.models, self.deals = Models(model, images), Latest()
        pictures = self.models.pictures
        require(
            len(pictures) >= 20,
            f"the model paints {' × '.join(map(str, self.models.shape))} values of {self.models.levels} levels, and "
            f"{self.models.images} has no pictures like that to play with: give images=…, a set that has.",
        )
        channels, height, width = self.models.shape
        facts = {"channels": channels, "height": height, "width": width, "levels": self.models.levels}
        shown = picture_of(pictures[:10], "ten pictures to play with", self.models.levels, columns=10)
        super().__init__(facts | {"models": self.models.names}, f"{shown}<p>{sentence}</p>")

    def deal(self, message: dict, buffers: Sequence[bytes]) -> None:
        """Deals anew."""
        self.in_turn(self.deals, lambda check: self._deal(check, message), message)

    def _deal(self, check: Callable[[], None], message: dict) -> None:
        raise NotImplementedError

    def _labels(self, model, chosen: Tensor) -> Tensor | None:
        return None if model.classes is None else self.models.labels[chosen]


class WhoPaintedIt(Game):
    """Deals ten real and ten painted images, shuffled."""

    kind = "who"

    def __init__(self, model: nn.Module | None = None, images: Images | None = None):
        super().__init__(model, images, "In a running notebook: which of twenty images did the model paint?")

    def _deal(self, check: Callable[[], None], message: dict) -> None:
        seed, model = int(message["seed"]), self.models[message["model"]]
        chance = torch.Generator().manual_seed(seed)
        real, alike = torch.randperm(len(self.models.pictures), generator=chance)[:20].split(10)
        painted = sample(
            model,
            10,
            shape=self.models.shape,
            label=self._labels(model, alike),  # as often as each class comes
            temperature=float(message["temperature"]),
            seed=seed,
            progress=False,
            on_step=lambda images, drawn: check(),
        )
        order = torch.randperm(20, generator=chance)
        images = torch.cat([self.models.pictures[real], painted])[order]
        self.tell({"say": "dealt", "turn": message["turn"], "painted": (order >= 10).tolist()}, [as_bytes(images)])


class GuessThePixel(Game):
    """Deals a real image, ten of its pixels in the order of drawing, and what the model expects at each."""

    kind = "guess"

    def __init__(self, model: nn.Module | None = None, images: Images | None = None):
        super().__init__(model, images, "In a running notebook: who pays fewer bits for a pixel, you or the model?")
        require(self.models.shape[0] == 1, "the images are in colour, and one guesses a single level: give grey ones.")

    def _deal(self, check: Callable[[], None], message: dict) -> None:
        model, chance = self.models[message["model"]], torch.Generator().manual_seed(int(message["seed"]))
        chosen = torch.randint(len(self.models.pictures), (1,), generator=chance)
        picture, label = self.models.pictures[chosen], self._labels(model, chosen)
        device = next(model.parameters(), picture).device
        with evaluation_mode(model), torch.no_grad():
            pmf = model.predict(picture.to(device), label).pmf()[0, 0].flatten(0, 1).double().cpu()
        hesitates = -(pmf * pmf.clamp(min=1e-30).log2()).sum(-1)  # pixels that are certain are no game
        rank = model.order(self.models.shape)[0]
        pixels = torch.multinomial(hesitates + 0.02, 10, generator=chance)
        pixels = pixels[rank.flatten()[pixels].argsort()]
        places = [list(divmod(int(pixel), rank.shape[1])) for pixel in pixels]
        self.tell(
            {"say": "dealt", "turn": message["turn"], "pixels": places},
            [as_bytes(picture), as_bytes(pmf[pixels].float()), as_bytes(rank.int())],
        )


def who_painted_it(model: nn.Module | None = None, images: Images | None = None) -> ipywidgets.DOMWidget:
    """Shows a game against the clock: ten real images, ten that the model painted, and which is which.

    Arguments:
        model: a model of the package or a module of one's own; None: the shipped ones.
        images: the set of real images, as `load_images` gives it; None: what that gives by default.

    Returns:
        the game; show it as the last line of a cell.

    Raises:
        ValueError: where there are no images of the model's shape.

    Example:
        >>> from pixelhelpers import load_images
        >>> game = who_painted_it(images=load_images("digits"))
    """
    return live(WhoPaintedIt(model, images))


def guess_the_pixel(model: nn.Module | None = None, images: Images | None = None) -> ipywidgets.DOMWidget:
    """Shows a game of ten pixels: you see what came before, say a level and how sure you are, and so does the model.

    Both pay the bits that their probability of the true level costs.

    Arguments:
        model, images: as for `who_painted_it`; the images are grey.

    Returns:
        the game; show it as the last line of a cell.

    Raises:
        ValueError: where there are no grey images of the model's shape.

    Example:
        >>> from pixelhelpers import load_images
        >>> game = guess_the_pixel(images=load_images("digits"))
    """
    return live(GuessThePixel(model, images))
