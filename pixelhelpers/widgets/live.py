"""Pictures that answer: the `Desk` that hears and answers, `live`, which shows it, `Latest`, one job at a time in a
thread, the `Models` to choose from, `as_bytes`, `picture_of`, and `Names` for controls.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import ipywidgets
from torch import Tensor, nn

from ..data import Images, load_images
from ..errors import require
from ..models import list_pretrained, load_pretrained
from ..models.base import AutoregressiveModel
from ..plots import images as grid
from ..plots import png, tag
from ..sampling import model_and_shape

NOT_LIVE = "<p>To make it live: <code>pip install anywidget</code>.</p>"
SCRIPT = Path(__file__).with_name("studio.js")


class _Overtaken(Exception):
    """Somebody wants something newer."""


class Latest:
    """Runs one job at a time, in a thread; a newer one ends the one that runs and takes the place of one that waits.

    Example:
        >>> jobs, done = Latest(), []
        >>> jobs.start(lambda check: done.append("one")).join()
        >>> done
        ['one']
    """

    def __init__(self):
        self.newest: object | None = None
        self.running = threading.Lock()

    def start(self, job: Callable[[Callable[[], None]], None]) -> threading.Thread:
        """Starts a job.

        Arguments:
            job: gets a function to call now and then: it ends the job where a newer one was started.

        Returns:
            its thread.
        """
        self.newest = ticket = object()

        def check() -> None:
            if self.newest is not ticket:
                raise _Overtaken

        def run() -> None:
            with suppress(_Overtaken), self.running:
                check()
                job(check)

        thread = threading.Thread(target=run)  # not a daemon: one cut off inside PyTorch would abort the process
        thread.start()
        return thread

    def stop(self) -> None:
        """Ends the job that runs, and what waits."""
        self.newest = None


class Models:
    """The models to choose from: one's own, and those shipped for a set of images; all for images of one shape.

    Arguments:
        model: a model of the package or a module of one's own; None: the shipped ones alone.
        images: the set whose pictures there are to begin with; None: what `load_images` gives.

    Raises:
        ValueError: for a model of more than 256 levels, or of neither 1 nor 3 image channels: it can't be drawn for.

    Example:
        >>> from pixelhelpers import PixelCNN
        >>> models = Models(PixelCNN(levels=4, hidden=8, blocks=1, image_size=5), load_images("digits"))
        >>> models.names, models.shape, models.pictures.shape[0]
        (['your PixelCNN'], (1, 5, 5), 0)
    """

    def __init__(self, model: nn.Module | None, images: Images | None):
        images = load_images() if images is None else images
        self.data, self.named, self.loaded = images.name, list(images.classes), {}
        shape, levels = tuple(images.valid.shape[1:]), images.levels
        if model is not None:
            own, shape = model_and_shape(model, None)
            kind = type(getattr(own, "module", own)).__name__
            levels, self.loaded[f"your {kind}"] = own.levels, own
        self.shape, self.levels = shape, levels
        require(
            levels <= 256 and shape[0] in (1, 3),
            f"the model has {levels} levels and {shape[0]} image channels: one can draw for up to 256 levels, grey or "
            "in colour.",
        )
        fits = shape == tuple(images.valid.shape[1:]) and levels == images.levels
        shipped = [name for name in list_pretrained() if name.partition("-")[2] == images.name] if fits else []
        self.names = [*self.loaded, *sorted(shipped, key=lambda name: not name.startswith("pixelcnn"))]
        require(
            self.names,
            f"no weights are shipped for {images.name!r}: give a model of your own.",
        )
        # A copy: the pictures may be a part of all images, which a widget that is shown would keep in memory.
        self.pictures = (images.valid if fits else images.valid[:0]).clone()
        self.labels = images.valid_labels if fits else None

    def __getitem__(self, name: str) -> AutoregressiveModel:
        if name not in self.loaded:
            require(name in self.names, f"no model is called {name!r}; there are: {', '.join(self.names)}.")
            self.loaded[name] = load_pretrained(name)
        return self.loaded[name]

    def classes(self, model: AutoregressiveModel) -> list[str]:
        """The names of a model's classes, numbers where nobody named them."""
        return self.named if len(self.named) == (model.classes or 0) else [str(k) for k in range(model.classes or 0)]


class Desk:
    """Hears what a live picture says, and answers; what goes wrong is told in a sentence.

    A message `{"do": name, …}` goes to the method of that name, which gets the message and its buffers.

    Arguments:
        facts: what the picture is told once.
        stand_in: a piece of HTML to show where no live picture can be.
    """

    kind = ""  # which of the pictures in studio.js

    def __init__(self, facts: dict, stand_in: str):
        self.facts, self.stand_in = facts, stand_in
        self.tell: Callable[..., None] = lambda message, buffers=(): None  # `live` puts the picture's ear here

    def hear(self, message: dict, buffers: Sequence[bytes] = ()) -> None:
        """Answers a message."""
        name = message.get("do")
        if name in self.answers:
            self.guarded(lambda: getattr(self, name)(message, [bytes(buffer) for buffer in buffers]), message)

    answers: tuple[str, ...] = ()

    def guarded(self, work: Callable[[], None], message: dict) -> None:
        """Does something, and tells the picture if that fails."""
        try:
            work()
        except _Overtaken:
            raise
        except Exception as error:  # a learner's own model may raise anything; a thread would tell nobody
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "  # ours say all that is needed
            self.tell({"say": "trouble", "turn": message.get("turn"), "text": f"{kind}{error}"})

    def in_turn(self, jobs: Latest, work: Callable[[Callable[[], None]], None], message: dict) -> None:
        """Does something in a thread, unless something newer comes."""
        jobs.start(lambda check: self.guarded(lambda: work(check), message))


def live(desk: Desk) -> ipywidgets.DOMWidget:
    """Shows a desk as a picture that answers the hand.

    Without anywidget, which a notebook elsewhere may lack, the desk's picture stands in.

    Arguments:
        desk: who answers.

    Example:
        >>> desk = Desk({}, "<p>a picture</p>")
        >>> isinstance(live(desk), ipywidgets.DOMWidget)
        True
    """
    try:
        import anywidget
        import traitlets
    except ModuleNotFoundError:
        return ipywidgets.HTML(desk.stand_in and desk.stand_in + NOT_LIVE)

    class Live(anywidget.AnyWidget):
        """The picture in the notebook; studio.js draws it."""

        _esm = SCRIPT.read_text(encoding="utf-8")
        kind = traitlets.Unicode().tag(sync=True)
        facts = traitlets.Dict().tag(sync=True)

        def _repr_mimebundle_(self, **keywords):
            bundle = super()._repr_mimebundle_(**keywords)
            return bundle if bundle is None else (bundle[0] | {"text/html": desk.stand_in}, *bundle[1:])

    picture = Live(kind=desk.kind, facts=desk.facts)
    picture.desk, desk.tell = desk, picture.send
    picture.on_msg(lambda _, message, buffers: desk.hear(message, buffers))
    return picture


def as_bytes(values: Tensor) -> bytes:
    """Gives the bytes of a tensor, for a message.

    Example:
        >>> import torch
        >>> as_bytes(torch.tensor([True, False]))
        b'\\x01\\x00'
    """
    return values.contiguous().numpy().tobytes()


def picture_of(pictures: Tensor, alt: str, levels: int, columns: int, titles: Sequence[str] | None = None) -> str:
    """Gives images side by side as a piece of HTML, for a desk's picture that stands in.

    Arguments:
        pictures, levels, columns, titles: as for `plots.images`.
        alt: what there is to see.

    Example:
        >>> import torch
        >>> picture_of(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), "two black images", 256, 2)[:27]
        '<img alt="two black images"'
    """
    return tag(png(grid(pictures, columns=columns, levels=levels, titles=titles, side=1.1)), alt)


class Names(Desk):
    """Nothing to see: gives the controls of the box that it stands in their names, for those who hear a page."""

    kind = "names"

    def __init__(self):
        super().__init__({}, "")
