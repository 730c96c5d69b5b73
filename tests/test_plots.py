"""What is painted live is what `sample` paints, in as many pictures as asked for; a turn shows what it says; colours
differ in print."""

import base64
import io
import re
from html.parser import HTMLParser
from itertools import combinations

import IPython
import numpy as np
import pytest
import torch
from PIL import Image

import pixelhelpers as ph
from pixelhelpers import plots
from pixelhelpers.stepping import Wavefront
from tests.register import MODELS, small


class Shown:
    """Stands in for a notebook's display: keeps the pictures."""

    def __init__(self):
        self.pictures, self.calls = [], []
        self.display, self.update = (lambda *given, how=how, **named: self.keep(how, *given, **named) for how in "du")

    def keep(self, how, data, raw):
        assert raw and data.keys() == {"text/html", "text/plain"} and data["text/plain"] == "[six]"
        self.calls.append(how)
        content = re.fullmatch(
            '<img alt="six" style="max-width: 100%" src="data:image/png;base64,([^"]+)">', data["text/html"]
        )[1]
        self.pictures.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))))


def contrast(one: str, other: str) -> float:
    """The ratio of two colours' luminances as WCAG 2 defines it: 1 for the same, 21 for black on white."""

    def luminance(colour: str) -> float:
        rgb = np.array(plots.mpl.colors.to_rgb(colour))
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722)) + 0.05

    darker, lighter = sorted((luminance(one), luminance(other)))
    return lighter / darker


def test_what_draws_lines_and_texts_stands_out_from_white():
    assert contrast("white", "black") == pytest.approx(21) and contrast("#777777", "white") == pytest.approx(
        4.48, abs=0.01
    )
    lines = plots.STYLE["axes.prop_cycle"].by_key()["color"]
    assert {plots.BLUE, plots.ORANGE, plots.GREEN, plots.RED} < set(lines)
    for colour in (*lines, plots.SKY, plots.GREY):
        assert contrast(colour, "white") >= 3, colour


@pytest.mark.parametrize(
    "together",
    [
        plots.STYLE["axes.prop_cycle"].by_key()["color"],  # lines of one figure
        [*plots.CONTEXT.values(), *plots.BEYOND.values(), "black"],  # `context`, and the frame
        [plots.SKY, plots.ORANGE, plots.PALE],  # `turn`
        [plots.BLUE, plots.SKY, plots.SILVER, "white"],  # bars
    ],
    ids=["lines", "context", "turn", "bars"],
)
def test_colours_of_one_figure_differ_on_a_black_and_white_print(together):
    assert len(together) >= 3
    for one, other in combinations(together, 2):
        assert contrast(one, other) >= 1.5, (one, other)


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


@pytest.mark.parametrize("alt", ['a "quoted" <b>word</b> & more', "Σp ≤ 1, it's 'so'", ""])
@pytest.mark.parametrize("kind", ["png", "gif"])
def test_whatever_its_text_a_picture_is_one_tag(alt, kind):
    frames = torch.randint(4, (3, 1, 4, 4), dtype=torch.uint8)
    picture = ph.plots.painting(frames, levels=4) if kind == "gif" else ph.plots.png(ph.plots.subplots()[0])
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda name, attributes: found.append((name, dict(attributes)))
    parser.feed(ph.plots.tag(picture, alt))
    ((name, attributes),) = found
    assert name == "img" and attributes.keys() == {"alt", "src", "style"} and attributes["alt"] == alt
    start, _, content = attributes["src"].partition(",")
    assert start == f"data:image/{kind};base64" and base64.b64decode(content) == picture


def test_outside_a_notebook_nothing_is_shown(capsys):
    model = small(ph.PixelCNN, image_size=5)
    painted = ph.plots.paint_live(model, 2, "two", seed=1)
    assert capsys.readouterr() == ("", "") and torch.equal(painted, ph.sample(model, 2, seed=1, progress=False))


def test_a_turn_shows_what_is_drawn_and_where_each_layer_works():
    wave = Wavefront(1, (1, 4, 12), lag=5, like=torch.zeros(()))
    figure = ph.plots.turn(wave.time, now=11, ahead=[3, 1, 0])
    (axis,) = figure.axes
    shown = torch.from_numpy(np.asarray(axis.images[0].get_array()))
    assert torch.equal(shown == 0, wave.time < 11) and torch.equal(shown == 1, wave.time == 11)
    numbers = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axis.texts}
    expected = {(row, 11 + lead - 5 * row): str(layer) for layer, lead in enumerate([3, 1, 0]) for row in range(4)}
    assert numbers == {(row, column): layer for (row, column), layer in expected.items() if 0 <= column < 12}
    assert ph.plots.png(figure)[1:4] == b"PNG"


def test_codes_are_shown_by_their_colours_or_not_at_all(tmp_path):
    codes, palette = torch.randint(512, (3, 1, 4, 4)), torch.rand(512, 3)
    for show in (
        ph.image_grid,
        plots.images,
        plots.painting,
        lambda images, levels: ph.grids.save_grid(images, tmp_path / "x.png", levels=levels),
    ):
        with pytest.raises(ValueError, match="levels is 512: codes have no brightness"):
            show(codes, levels=512)
        with pytest.raises(ValueError, match=r"up to \d+, levels is 256"):
            show(codes + 300, levels=256)
    grid = ph.image_grid(codes, levels=512, palette=palette)
    assert torch.equal(grid[:, 2:6, 2:6], palette[codes[0, 0]].movedim(-1, 0))
    assert len(plots.images(codes, levels=512, palette=palette).axes) == 3
    ph.grids.save_grid(codes, tmp_path / "x.png", levels=512, palette=palette)
    assert (tmp_path / "x.png").stat().st_size > 50
    with pytest.raises(ValueError, match=r"palette has shape \(256, 3\)"):
        ph.image_grid(codes, levels=512, palette=palette[:256])
    with pytest.raises(ValueError, match="codes have no brightness"):
        plots.paint_live(ph.PixelCNN(levels=512, hidden=8, blocks=1, image_size=4), 1, "codes")


def test_a_reliability_diagram_has_a_point_for_each_bin_over_what_was_said():
    said = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6]])
    found = ph.probes.reliability(said, torch.tensor([0, 1, 1]), edges=(0.5, 0.75))
    figure = plots.reliability(found, "three images")
    (axis,) = figure.axes
    assert axis.get_title() == "three images"
    points = np.stack(axis.lines[0].get_data())
    np.testing.assert_allclose(points, np.stack([found.said, found.right]))
    assert points.shape == (2, 2) and plots.png(figure)


def test_offsets_stand_at_their_distances_and_nothing_where_there_is_no_number():
    values = torch.full((5, 5), float("nan"))
    values[2, 3], values[4, 2] = 0.25, -0.5  # the pixel to the right; the second one below
    (axis, *_) = plots.offsets(values, step=2).axes
    assert {(text.get_position(), text.get_text()) for text in axis.texts} == {((3, 2), ".25"), ((2, 4), "-.50")}
    right, down = ([label.get_text() for label in way.get_ticklabels()] for way in (axis.xaxis, axis.yaxis))
    assert right == down == ["-4", "-2", "0", "2", "4"]


def test_dots_have_a_row_for_each_group_from_above_and_a_line_at_its_mean():
    groups = {"three": [1.0, 2.0, 6.0], "one": torch.tensor([4.0])}
    (axis,) = plots.dots(groups, "values").axes
    three, their_mean, one, its_mean = axis.lines
    assert list(three.get_xdata()) == groups["three"] and list(one.get_xdata()) == [4.0]
    assert list(their_mean.get_xdata()) == [3.0, 3.0] and list(its_mean.get_xdata()) == [4.0, 4.0]
    assert max(abs(three.get_ydata())) < 0.5 and list(one.get_ydata()) == [1.0]
    assert [label.get_text() for label in axis.get_yticklabels()] == list(groups) and axis.yaxis_inverted()


def test_a_row_of_images_without_a_title_takes_no_room_for_one():
    def height(titled: int) -> float:
        """Of three rows, in inches, `titled` of them with titles."""
        titles = [""] * 12
        titles[: 4 * titled] = ["title"] * (4 * titled)
        return plots.images(torch.zeros(12, 1, 5, 5), columns=4, titles=titles).get_figheight()

    plain = plots.images(torch.zeros(12, 1, 5, 5), columns=4).get_figheight()
    assert height(0) == plain < height(1) < height(3)
    assert height(1) - plain == pytest.approx((height(3) - plain) / 3)
