"""What is painted live is what `sample` paints, in as many pictures as asked for, each with its text."""

import base64
import io

import IPython
import numpy as np
import pytest
import torch
from PIL import Image

import pixelhelpers as ph
from tests.register import MODELS, small


class Shown:
    """Stands in for a notebook's display: keeps the pictures."""

    def __init__(self):
        self.pictures, self.calls = [], []
        self.display, self.update = (lambda *given, how=how, **named: self.keep(how, *given, **named) for how in "du")

    def keep(self, how, data, raw, metadata):
        assert raw and metadata == {"image/png": {"alt": "six"}} and data["text/plain"] == "[six]"
        self.calls.append(how)
        self.pictures.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/png"])))))


@pytest.mark.parametrize("name", ["PixelCNN", "PixelCNNPlusPlus", "MultiscalePixelCNN"])
def test_paint_live_paints_the_very_images_of_sample_and_shows_how(name, monkeypatch):
    shown = Shown()
    monkeypatch.setattr(IPython, "get_ipython", lambda: "a notebook")
    monkeypatch.setattr(IPython.display, "DisplayHandle", lambda: shown)
    model = small(MODELS[name], levels=4, image_size=8)
    keywords = {"seed": 3, "temperature": 0.8}
    painted = ph.plots.paint_live(model, 6, "six", columns=3, zoom=2, frames=5, **keywords)
    assert torch.equal(painted, ph.sample(model, 6, progress=False, **keywords)) and len(painted.unique()) > 1
    assert shown.calls == ["d", *"u" * (len(shown.calls) - 1)] and 3 <= len(shown.calls) <= 6
    grid = (ph.image_grid(painted, 3, 4) * 255).round().to(torch.uint8).permute(1, 2, 0)
    last = grid.repeat_interleave(2, 0).repeat_interleave(2, 1).numpy()
    assert np.array_equal(shown.pictures[-1], last) and not np.array_equal(shown.pictures[0], last)


def test_outside_a_notebook_nothing_is_shown(capsys):
    model = small(ph.PixelCNN, image_size=5)
    painted = ph.plots.paint_live(model, 2, "two", seed=1)
    assert capsys.readouterr() == ("", "") and torch.equal(painted, ph.sample(model, 2, seed=1, progress=False))
