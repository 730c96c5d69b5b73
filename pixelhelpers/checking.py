"""All proofs at once, asked of anybody's model: `check_model` and its `Report`."""

import math
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from .arguments import image_shape
from .data.images import value_type
from .errors import CausalityError, ModelError, require
from .files import read_weights
from .models.base import AutoregressiveModel, at_least
from .models.own import OwnModule, as_model, sides
from .probes.asking import copied, known_labels
from .probes.causality import searched
from .sampling import chosen_method, sample, why_not_cached
from .scoring import total_probability
from .tables import Table

SIZES = ((2, 2), (1, 3), (1, 2), (1, 1))  # of images that are summed over, the largest first
AFFORDABLE = 70_000  # of these: all pairs of bytes are 65,536
TEMPERATURES = (1.0, 3.0, 10.0, 100.0)  # until images differ enough for a comparison to mean something


class Report(Table):
    """What `check_model` asked, and what it found: a list of rows, shown as a table.

    Each row is a dict with `question`, `answer` ("holds", or "not asked") and `detail`.
    """

    COLUMNS = ("question", "answer", "detail")


def check_model(
    model: nn.Module,
    shape: tuple[int, int] | tuple[int, int, int] | None = None,
    levels: int | None = None,
    labels: int | Iterable[int] | None = None,
) -> Report:
    """Asks of anybody's model what every model of the package has been asked; raises with the first fault.

    Is it causal in space and channels, in its own order, in evaluation and training mode, for each class? Do the
    probabilities of all images of a tiny size sum to 1? Is an image's log-probability the sum of its values'? Does
    a step equal `forward`, and do all methods of `sample` draw equal images? Does it come back from a file as it
    was? All is asked of copies on the CPU, in double precision where the model admits it.

    Arguments:
        model: a model of the package or a subclass, or a module that maps `[N, C, H, W]` to
            `[N, levels, H, W]`, for colour `[N, levels, C, H, W]`.
        shape: (H, W) or (C, H, W) of the images for all questions but the sums; default: 8 x 10, or the next size
            that the model takes. Whether it is causal is then asked as `check_causal` does by default, and there
            stands what such a search cannot find.
        levels: number of levels of a value; default: the model's own.
        labels: class or classes to ask about, for a model with classes; default: the first, the middle and the last.

    Returns:
        the report. A question that cannot be asked of this model says so.

    Raises:
        CausalityError: when an output sees what is not drawn before it, or nothing at all.
        ModelError: when another promise is broken; the message names it.
        ValueError: for images, levels or labels that the model does not take.

    Example:
        >>> from pixelhelpers import PixelCNN
        >>> check_model(PixelCNN(levels=4, hidden=8, blocks=1))
        question                           answer   detail
        causal                             holds    1×8×8 and 1×28×28, evaluation and training mode
        probabilities sum to 1             holds    all 256 images of 1×2×2
        log-probability is the sum         holds    6 random images of 1×8×10
        a step equals forward              holds    6 random images of 1×8×10
        all methods draw equal images      holds    naive, cropped, cached, fixed-point; 3 images, temperature 1
        comes back from a file as it was   holds    weights and likelihoods
    """
    require(isinstance(model, nn.Module), f"model is a {type(model).__name__}: give a torch.nn.Module.", TypeError)
    net = copied(model).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _Examination(net, shape, levels, labels).report()


class _Examination:
    """The questions of `check_model`, in turn."""

    def __init__(self, net: nn.Module, shape: Sequence[int] | None, levels: int | None, labels: Iterable[int] | None):
        channels, *size = (None,) if shape is None else image_shape(shape)
        if levels is not None:
            at_least(2, levels=levels)
        try:
            model = as_model(net, levels=levels, image_channels=channels, image_size=tuple(size) or None)
        except ValueError as error:
            if shape is not None or isinstance(net, AutoregressiveModel):
                raise
            raise ValueError(f"{error} Or give shape=(C, H, W) here.") from error
        self.model, self.is_own, self.name = model.eval(), isinstance(model, OwnModule), type(net).__name__
        self.labels, self.asked = self._known(labels), shape is not None
        self.shape = (model.image_channels, *(self._some_size() if shape is None else size))
        self._refusal(self.shape, strict=True)
        self.exact = copied(self.model).double()
        self.is_single = self._refuses_double()
        if self.is_single:
            self.exact = copied(self.model).float()
        self.tolerance = 5e-4 if self.is_single else 1e-9
        self.images = torch.randint(model.levels, (6, *self.shape), dtype=value_type(model.levels))

    def report(self) -> Report:
        questions = {
            "causal": self._causal,
            "probabilities sum to 1": self._sum,
            "log-probability is the sum": self._log_prob,
            "a step equals forward": self._step,
            "all methods draw equal images": self._methods,
            "comes back from a file as it was": self._file,
        }
        report = Report()
        for question, ask in questions.items():
            answer, detail = ask()
            report.append({"question": question, "answer": answer, "detail": detail})
        return report

    # -- what can be asked ----------------------------------------------------------------------------

    def _known(self, labels: Iterable[int] | None) -> list[int | None]:
        classes = self.model.classes
        if labels is None:
            return [None] if classes is None else sorted({0, classes // 2, classes - 1})
        return known_labels(self.model, labels).tolist()

    def _mixed(self, count: int) -> Tensor | None:
        """The classes in turn: a batch in which images of several stand side by side."""
        return None if self.labels == [None] else torch.tensor(self.labels).repeat(count)[:count]

    def _refusal(self, shape: tuple[int, ...], strict: bool = False) -> str | None:
        """Why the model does not take images of this shape, None if it does."""
        try:
            self.model.order(shape)
            with torch.no_grad():
                given = self.model.predict(torch.zeros(1, *shape, dtype=torch.uint8), self.labels[0]).batch_shape
            require(given == (1, *shape), f"it gives conditionals of shape {tuple(given)}.")
        except Exception as error:  # a stranger's module raises whatever it trips over
            if strict:
                where = "×".join(map(str, shape))
                raise ValueError(f"the model does not take images of {where}: {error} Give another shape.") from error
            return str(error)
        return None

    def _some_size(self) -> tuple[int, int]:
        """A small size that the model takes; not a square if that can be: rows and columns must not be mixed up."""
        sizes = [
            (8, 10),
            (8, 12),
            (8, 16),
            *((side, side) for side in (*range(8, 17), 24, 32)),
            sides(self.model.image_size),
        ]
        return next((size for size in sizes if self._refusal((self.model.image_channels, *size)) is None), sizes[-1])

    def _refuses_double(self) -> bool:
        try:
            with torch.no_grad():
                answer = self.exact.predict(torch.zeros(1, *self.shape, dtype=torch.uint8), self.labels[0]).pmf()
        except RuntimeError:  # float32 inside
            return True
        return answer.dtype != torch.double

    def _crops(self) -> bool:
        """Whether upper rows are predicted alike without those below: not where places count from the bottom, say."""
        height = -(-self.shape[1] // 2)
        if self._refusal((self.shape[0], height, self.shape[2])) is not None:
            return False
        with torch.no_grad():
            whole, part = (
                self.exact.predict(x, self._mixed(6)).pmf() for x in (self.images, self.images[:, :, :height])
            )
        return torch.allclose(whole[:, :, :height], part, rtol=0, atol=self.tolerance)

    def _of(self, label: int | None, method: str) -> str:
        return f"{self.name}: {method}" + ("" if label is None else f" (class {label})")

    def _random(self, count: int) -> str:
        return f"{count} random images of {'×'.join(map(str, self.shape))}"

    def _classes(self) -> str:
        return "" if self.labels == [None] else f", classes {', '.join(map(str, self.labels))}"

    # -- the questions --------------------------------------------------------------------------------

    def _causal(self) -> tuple[str, str]:
        labels = None if self.labels == [None] else self.labels
        try:
            shapes = searched(self.model, self.shape if self.asked else None, self.model.levels, labels=labels)
        except CausalityError as error:
            raise CausalityError(self._of(None, str(error))) from None
        sizes = " and ".join("×".join(map(str, shape)) for shape in shapes)
        return "holds", f"{sizes}, evaluation and training mode{self._classes()}"

    def _sum(self) -> tuple[str, str]:
        if self.is_single:
            return "not asked", "it refuses double precision"
        channels, levels = self.model.image_channels, self.model.levels
        for height, width in SIZES:
            count, shape = levels ** (channels * height * width), (channels, height, width)
            if count <= AFFORDABLE and self._refusal(shape) is None:
                break
        else:
            return "not asked", f"it takes none of the tiny sizes of at most {AFFORDABLE:,} images"
        for label in self.labels:
            total = total_probability(self.exact, shape, levels, label)
            if not math.isclose(total, 1, abs_tol=1e-8):
                what = f"the probabilities of all {count:,} images of {'×'.join(map(str, shape))} sum to {total:.6g}"
                raise ModelError(self._of(label, f"{what}, not to 1. They are no probabilities."))
        return "holds", f"all {count:,} images of {'×'.join(map(str, shape))}{self._classes()}"

    @torch.no_grad()
    def _log_prob(self) -> tuple[str, str]:
        labels, count = self._mixed(len(self.images)), len(self.images)
        predicted = self.exact.predict(self.images, labels)
        whole = self.exact.log_prob(self.images, labels)
        parts = predicted.log_prob(self.images.long()).flatten(1).sum(1)
        alone = [None if labels is None else labels[k : k + 1] for k in range(count)]
        alone = torch.cat([self.exact.log_prob(self.images[k : k + 1], alone[k]) for k in range(count)])
        at = (self.shape[1] // 2, self.shape[2] // 2, self.shape[0] - 1)
        one = self.exact.predict(self.images, labels, at=at).pmf()
        for what, first, second in (
            ("log_prob differs from the sum over `predict`'s conditionals", whole, parts),
            ("log_prob of an image differs with the others of its batch", whole, alone),
            (
                f"predict(at={at}) differs from that value of the whole prediction",
                one,
                predicted.pmf()[:, at[2], at[0], at[1]],
            ),
        ):
            off = (first - second).abs().flatten(1).amax(1) if first.dim() > 1 else (first - second).abs()
            if not torch.allclose(first, second, rtol=self.tolerance, atol=self.tolerance):
                worst = int(off.argmax())
                raise ModelError(
                    self._of(None if labels is None else int(labels[worst]), f"{what}, by {float(off[worst]):.3g}.")
                )
        return "holds", self._random(count) + self._classes()

    @torch.no_grad()
    def _step(self) -> tuple[str, str]:
        if (obstacle := why_not_cached(self.exact)) is not None:
            return "not asked", "a module of one's own has no step" if self.is_own else obstacle
        count = len(self.images)
        wave = self.exact.fronts(count, self.shape, like=next(self.exact.parameters()))
        values, chosen = wave.by_front(self.images), self.exact.labels(self._mixed(count), count)
        whole = self.exact.predict(self.images, chosen).pmf()  # [N, C, H, W, levels]
        whole = whole.flatten(2, 3)[:, :, wave.pixels].permute(1, 2, 0, 3)  # [C, H * W, N, levels]
        step = self.exact.stepper(wave, chosen)
        for front in wave:
            at = (front.channel, front.pixels)
            off = (step.predict(front).pmf() - whole[at].flatten(0, 1)).abs().amax(1).view(-1, count)  # [rows, N]
            if not (off < self.tolerance).all():
                row, column = divmod(int(wave.pixels[front.pixels][off.amax(1).argmax()]), self.shape[2])
                label = None if chosen is None else int(chosen[off.amax(0).argmax()])
                raise ModelError(
                    self._of(
                        label,
                        f"a step differs from `forward` by {float(off.max()):.3g} in a probability at channel "
                        f"{front.channel}, row {row}, column {column}. `stepper` computes something else.",
                    )
                )
            step.put(front, values[at].flatten().long())
        return "holds", self._random(count) + self._classes()

    def _methods(self) -> tuple[str, str]:
        if self.is_single:  # where rounding decides, images may part
            return "not asked", "it refuses double precision"
        names = ["naive", "cropped", "cached", "fixed-point"]
        possible = {"cropped": self._can("cropped") and self._crops(), "cached": self._can("cached")}
        names = [name for name in names if possible.get(name, True)]
        keywords = {"shape": self.shape[1:], "label": self._mixed(3), "seed": 0, "progress": False}
        for temperature in TEMPERATURES:
            images = sample(self.exact, 3, method="naive", temperature=temperature, **keywords)
            if self._tells(images):
                break
        else:
            return "not asked", "its images are all alike, at any temperature"
        for name in names[1:]:
            other = sample(self.exact, 3, method=name, temperature=temperature, **keywords)
            if not torch.equal(images, other):
                share = float((images != other).double().mean())
                what = f"method {name!r} draws other images than 'naive': {share:.1%} of the values."
                raise ModelError(self._of(None, what))
        return "holds", f"{', '.join(names)}; 3 images, temperature {temperature:g}{self._classes()}"

    def _can(self, method: str) -> bool:
        try:
            chosen_method(self.exact, method, self.shape)
        except ValueError:
            return False
        return True

    def _tells(self, images: Tensor) -> bool:
        """Whether images are so unlike each other that equal ones mean something."""
        commonest = images.flatten().bincount().amax() / images.numel()
        return bool(commonest < 0.9) and len(images.unique(dim=0)) == len(images)

    @torch.no_grad()
    def _file(self) -> tuple[str, str]:
        model = copied(self.model).float()  # what a file is loaded into
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            if self.is_own:
                again = copied(model)
                for value in again.module.parameters():
                    value.fill_(0.1)
                again.module.load_state_dict(read_weights(Path(folder) / "model.safetensors"))
            else:
                try:
                    again = type(model).from_pretrained(folder).float()
                except ValueError as error:
                    if type(model).__module__.startswith(__package__):
                        raise
                    return "not asked", f"its own constructor wants more than a file can hold: {error}"
        for label in self.labels:
            if not torch.equal(again.log_prob(self.images, label), model.log_prob(self.images, label)):
                raise ModelError(self._of(label, "saved and loaded, it gives other likelihoods: a file lacks a part."))
        what = "its state_dict, loaded into a copy" if self.is_own else "weights and likelihoods"
        return "holds", what + self._classes()
