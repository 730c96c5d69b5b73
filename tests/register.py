"""The register of models: whatever is promised of every model is asked of each line here.

A new model is one file in `pixelhelpers/models/`, one line of export there, and one line here.
"""

import inspect
import random
from functools import partial

import pytest
import torch

import pixelhelpers as ph
from tests.sixth_model import RowsAbove

MODELS = {
    "PixelCNN": ph.PixelCNN,
    "GatedPixelCNN": ph.GatedPixelCNN,
    "PixelCNNPlusPlus": ph.PixelCNNPlusPlus,
    "MultiscalePixelCNN": partial(ph.MultiscalePixelCNN, doublings=1),
    "PixelSNAIL": ph.PixelSNAIL,
    "PixelSNAIL, softmax": partial(ph.PixelSNAIL, components=None),
    "a sixth model": RowsAbove,
}
CASES = {  # of every model
    "grey": {},
    "colour": {"image_channels": 3},
    "grey, classes": {"classes": 3},
    "colour, classes": {"image_channels": 3, "classes": 3},
}
every_model = pytest.mark.parametrize("kind", MODELS.values(), ids=MODELS)
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def small(kind, seed=0, **settings):
    """A small model whose every part acts: a new one hardly listens to its gates, components and attention."""
    torch.manual_seed(seed)
    model = kind(**{"levels": 5, "hidden": 12, "blocks": 1} | settings).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    return model


def random_settings(number, **settings):
    """Settings that every model takes, different for every number."""
    chance = random.Random(number)
    return {
        "levels": chance.randint(2, 9),
        "image_channels": chance.choice((1, 1, 3)),
        "classes": chance.choice((None, 3)),
        "hidden": 6 * chance.randint(1, 3),
        "blocks": chance.randint(1, 3),
        "dropout": chance.choice((0.0, 0.5)),
    } | settings


def random_model(kind, number, **settings):
    """A small model with settings as odd as it takes: two channels, odd numbers of features, words of its own."""
    chance = random.Random(1000 + number)
    own = {"heads": chance.randint(1, 3), "components": chance.randint(1, 4), "doublings": chance.randint(1, 2)}
    taken = inspect.signature(kind).parameters
    fixed = getattr(kind, "keywords", {})  # of a partial
    own = {name: value for name, value in own.items() if name in taken and name not in fixed}
    usual = random_settings(number)
    odd = {"image_channels": chance.choice((1, 2, 3)), "hidden": chance.randint(3, 18), **own}
    for more in (odd, {**odd, "hidden": usual["hidden"]}, {**odd, "image_channels": 3}, own, {}):
        try:
            return small(kind, number, **{**usual, **more, **settings})
        except ValueError:  # not every model takes everything
            continue
    raise AssertionError(f"{kind} refuses {usual}")


def fitting(model, height, width):
    """A size that the model takes: this one, or twice, four times, … as large."""
    try:
        model.order((height, width))
    except ValueError:
        return fitting(model, 2 * height, 2 * width)
    return height, width


def images(model, count=4, height=6, width=5, seed=1):
    """Random images of a size that the model takes."""
    shape = (count, model.image_channels, *fitting(model, height, width))
    return torch.randint(model.levels, shape, generator=torch.Generator().manual_seed(seed))


def a_label(model):
    return None if model.classes is None else 1


def some_labels(model, count):
    return None if model.classes is None else torch.arange(count) % model.classes


def raster(model, shape=(6, 8)):
    """Whether the model draws in raster order."""
    shape = fitting(model, *shape)
    order = torch.arange(model.image_channels * shape[0] * shape[1]).view(*shape, -1).permute(2, 0, 1)
    return torch.equal(model.order(shape), order)


def step_through(model, x, label=None):
    """Every value's parameters `[C, H * W, N, numbers]`, front after front and all at once, for given images."""
    wave = model.fronts(len(x), x.shape[1:], like=next(model.parameters()))
    values, stepped = wave.by_front(x), []
    with torch.no_grad():
        step = model.stepper(wave, label)
        for front in wave:
            stepped.append(parameters(step.predict(front)).unflatten(0, (-1, len(x))))
            step.put(front, values[front.channel, front.pixels].flatten().long())
        whole = parameters(model.predict(x, label))
    stepped = torch.stack([torch.cat(stepped[channel :: wave.channels]) for channel in range(wave.channels)])
    return stepped, whole.flatten(2, 3)[:, :, wave.pixels].permute(1, 2, 0, 3)


def parameters(distribution):
    """Normalised logits, and for a mixture the means and log-scales too: unlikely levels count like likely ones."""
    more = (distribution.means, distribution.log_scales) if hasattr(distribution, "means") else ()
    return torch.cat((distribution.logits, *more), -1)
