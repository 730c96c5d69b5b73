"""Draw, erase, complete, and ask a pixel: `studio` shows a `Studio`; `remark_on` says what does not come first."""

import math
import time
import warnings
from collections.abc import Callable, Sequence

import ipywidgets
import torch
from torch import Tensor, nn

from ..data import Images
from ..errors import require
from ..models.base import AutoregressiveModel, evaluation_mode
from ..probes import receptive_field
from ..sampling import sample
from .live import Desk, Latest, Models, as_bytes, live, picture_of

KEPT_LATER = (
    "Part of what you keep comes later in the drawing order: this model paints the rest without having seen that part "
    "(notebook 04, section 9)."
)
DRAWN_LATER = (
    "What you drew outside the kept part is painted over: it comes later in the drawing order, and no pixel can take "
    "a later one into account (notebook 04, section 9)."
)
SENTENCE = "In a running notebook this is a canvas: you draw the upper part, and the model paints the rest."

# The studio says the same in a sentence of its own.
warnings.filterwarnings("ignore", "known values that come later", module=r"pixelhelpers\.widgets\.studio")


class Studio(Desk):
    """Answers the canvas: completes what is drawn on it, and says what the model expects at a pixel.

    Arguments:
        model, images: as for `studio`.
    """

    kind, answers = "studio", ("complete", "stop", "ask", "picture")

    def __init__(self, model: nn.Module | None = None, images: Images | None = None):
        self.models = models = Models(model, images)
        self.drawings, self.questions = Latest(), Latest()
        self.read: tuple[object, Tensor | None] = (None, None)  # what was read last, and its probabilities
        self.fields: dict[tuple, Tensor] = {}  # what a pixel of a model sees
        channels, height, width = models.shape
        first, rows = models[models.names[0]], height * 3 // 8
        number = min(24, len(models.pictures) - 1)
        picture = models.pictures[number] if number >= 0 else torch.zeros(models.shape, dtype=torch.uint8)
        label = None if first.classes is None else 0 if models.labels is None else int(models.labels[number])
        known = (torch.arange(height) < rows)[:, None].expand(height, width)
        painted = sample(first, 3, given=picture, known=known, label=label, seed=0, progress=False)
        facts = {
            "channels": channels,
            "height": height,
            "width": width,
            "levels": models.levels,
            "models": models.names,
            "classes": models.classes(first),
            "label": label or 0,
            "pictures": len(models.pictures),
            "number": max(number, 0),
            "picture": picture.flatten().tolist(),
            "rows": rows,
            "painted": painted.flatten(1).tolist(),
        }
        shown = torch.cat([(picture * known)[None], painted])
        alt = "the upper rows of a picture, and three images that the model painted below them"
        there = picture_of(shown, alt, models.levels, columns=4, titles=["kept", "1", "2", "3"])
        super().__init__(facts, f"{there}<p>{SENTENCE}</p>")

    def complete(self, message: dict, buffers: Sequence[bytes]) -> None:
        """Paints what is not kept, and tells how far it is, row by row."""
        image, known, drawn = self._canvas(buffers[0]), self._mask(buffers[1]), self._mask(buffers[2])
        self.in_turn(self.drawings, lambda check: self._complete(check, message, image, known, drawn), message)

    def stop(self, message: dict, buffers: Sequence[bytes]) -> None:
        """Ends the painting."""
        self.drawings.stop()

    def ask(self, message: dict, buffers: Sequence[bytes]) -> None:
        """Tells what the model expects at a pixel of an image, what is there, and which pixels it could see."""
        image = self._canvas(buffers[0])
        self.in_turn(self.questions, lambda check: self._ask(check, message, image), message)

    def picture(self, message: dict, buffers: Sequence[bytes]) -> None:
        """Gives a picture of the set."""
        number = int(message["number"])
        there = len(self.models.pictures)
        require(0 <= number < there, f"there is no picture {number}: give a number from 0 to {there - 1}.")
        labels = self.models.labels
        label = 0 if labels is None else int(labels[number])
        self.tell({"say": "picture", "label": label, "number": number}, [as_bytes(self.models.pictures[number])])

    def _canvas(self, buffer: bytes) -> Tensor:
        return torch.frombuffer(bytearray(buffer), dtype=torch.uint8).view(self.models.shape)

    def _mask(self, buffer: bytes) -> Tensor:
        return torch.frombuffer(bytearray(buffer), dtype=torch.uint8).view(self.models.shape[1:]).bool()

    def _label(self, model: AutoregressiveModel, message: dict) -> int | None:
        return None if model.classes is None else int(message.get("label") or 0)

    def _complete(self, check: Callable[[], None], message: dict, image: Tensor, known: Tensor, drawn: Tensor) -> None:
        turn, model = message["turn"], self.models[message["model"]]
        rank = model.order(self.models.shape)
        remark = remark_on(known, drawn, rank)
        self.tell({"say": "begun", "turn": turn, "remark": remark, "classes": self.models.classes(model)})
        told = {"rows": -1, "at": time.monotonic()}

        def on_step(images: Tensor, done: Tensor) -> None:
            check()
            rows, now = int(done.all(3).all(1).all(0).sum()), time.monotonic()
            if rows > told["rows"] or now - told["at"] > 0.1:
                told.update(rows=rows, at=now)
                self.tell({"say": "rows", "turn": turn}, [as_bytes(images), as_bytes(done.all(1))])

        images = sample(
            model,
            int(message["count"]),
            given=image,
            known=known,
            label=self._label(model, message),
            temperature=float(message["temperature"]),
            top_p=float(message["top_p"]),
            greedy=bool(message["greedy"]),
            seed=int(message["seed"]),
            progress=False,
            on_step=on_step,
        )
        check()
        self.tell({"say": "done", "turn": turn}, [as_bytes(images), as_bytes(torch.ones_like(images[:, 0]))])

    def _ask(self, check: Callable[[], None], message: dict, image: Tensor) -> None:
        turn, model = message["turn"], self.models[message["model"]]
        row, column = message["at"]
        pmf = self._read(model, image, self._label(model, message))
        there = image.long()
        bits = -pmf.gather(-1, there[..., None]).squeeze(-1).log2()
        ranks = model.order(self.models.shape).amin(0).flatten()
        walk = ranks.argsort(stable=True)
        place = int((walk == row * image.shape[2] + column).nonzero())
        before, after = (divmod(int(walk[k % len(walk)]), image.shape[2]) for k in (place - 1, place + 1))
        dearest = divmod(int(bits.sum(0).argmax()), image.shape[2])
        answer = {"at": [row, column], "place": place + 1, "before": before, "after": after, "dearest": dearest}
        answer |= {"levels": there[:, row, column].tolist(), "bits": _finite(bits[:, row, column])}
        answer |= {"mean": _finite(bits.mean()[None])[0]}
        self.tell({"say": "asked", "turn": turn} | answer, [as_bytes(pmf[:, row, column])])
        check()
        self.tell({"say": "seen", "turn": turn}, [as_bytes(self._field(model, message["model"], (row, column)))])

    def _read(self, model: AutoregressiveModel, image: Tensor, label: int | None) -> Tensor:
        """The probabilities of an image's values, float `[C, H, W, levels]`: one pass, kept for the next question."""
        asked = (model, label, as_bytes(image))
        if self.read[0] != asked:
            device = next(model.parameters(), image).device
            with evaluation_mode(model), torch.no_grad():
                self.read = (asked, model.predict(image[None].to(device), label).pmf()[0].float().cpu())
        return self.read[1]

    def _field(self, model: AutoregressiveModel, name: str, at: tuple[int, int]) -> Tensor:
        if (name, at) not in self.fields:
            self.fields[name, at] = receptive_field(model, at, self.models.shape)
        return self.fields[name, at]


def studio(model: nn.Module | None = None, images: Images | None = None) -> ipywidgets.DOMWidget:
    """Shows a canvas on which one draws, and beside it what the model paints below.

    Every stroke and every control begins the painting anew; the images are those of `sample` for the same `given`,
    `known` and `seed`. A pixel that is asked shows its probabilities and what it could see. The canvas answers mouse,
    pen, touch and keyboard. Where it cannot run, a picture stands in.

    Arguments:
        model: a model of the package or a module of one's own, of at most 256 levels; shipped weights can be chosen
            beside it where they paint images of its shape. None: the shipped weights for the images alone.
        images: the set whose pictures can be loaded, as `load_images` gives it; None: what that gives by default.

    Returns:
        the canvas; show it as the last line of a cell.

    Example:
        >>> from pixelhelpers import PixelCNN, load_images
        >>> canvas = studio(PixelCNN(levels=4, hidden=8, blocks=1, image_size=5), load_images("digits"))
    """
    return live(Studio(model, images))


def remark_on(known: Tensor, drawn: Tensor, order: Tensor) -> str:
    """Says in one sentence what does not come first in the drawing order; nothing where all is well.

    Arguments:
        known: which pixels are kept, bool `[H, W]`.
        drawn: which ones somebody drew, bool `[H, W]`.
        order: rank of each value, `[C, H, W]`.

    Example:
        >>> upper = torch.tensor([[True], [False]])
        >>> order = torch.tensor([[[0], [1]]])
        >>> remark_on(upper, upper, order)
        ''
        >>> remark_on(~upper, upper, order)[:36]
        'Part of what you keep comes later in'
    """
    kept = known.expand_as(order)
    if kept.any() and not kept.all() and order[kept].max() > order[~kept].min():
        return KEPT_LATER
    return DRAWN_LATER if (drawn & ~known).any() else ""


def _finite(bits: Tensor) -> list[float | None]:
    """Numbers that JSON can hold: what is impossible costs infinitely many bits, None."""
    return [bit if math.isfinite(bit) else None for bit in bits.tolist()]
