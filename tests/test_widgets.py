"""The widgets: a moved control redraws the picture, and what is drawn is true."""

import base64
import io
import re

import pytest
import torch
from PIL import Image
from torch import nn

from pixelhelpers import MaskedConv2d, blind_spot, plots, receptive_field, widgets
from pixelhelpers.layers import raster_mask
from pixelhelpers.widgets import explorers


def parts(box):
    row, image, _ = box.children
    return {control.description: control for control in row.children}, image


TAG = re.compile('<img alt="([^"]+)" style="max-width: 100%" src="data:image/png;base64,([^"]+)">')


def alt_of(image) -> str:
    return TAG.fullmatch(image.value)[1]


def drawn(image) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(TAG.fullmatch(image.value)[2])))


def test_where_widgets_do_not_run_the_picture_is_shown_as_it_was():
    box = widgets.reach_explorer()
    box.children[0].children[2].value = 9
    bundle = box._repr_mimebundle_()
    assert bundle["text/html"] == box.children[1].value and "application/vnd.jupyter.widget-view+json" in bundle


def test_every_control_of_the_mask_explorer_redraws_it():
    controls, image = parts(widgets.mask_explorer())
    moves = {"first layer": "B", "later layers": "A", "kernel": 5, "layers": 4}
    assert set(controls) == set(moves)
    for name, value in moves.items():
        before = image.value
        controls[name].value = value
        assert image.value != before, name
        assert drawn(image).format == "PNG" and f"{name} {value}" in alt_of(image)


def test_the_mask_explorer_draws_every_setting():
    controls, image = parts(widgets.mask_explorer())
    for size in (3, 7):
        for depth in (1, 8):
            controls["kernel"].value, controls["layers"].value = size, depth
            assert drawn(image).width > 500


@pytest.mark.parametrize("types, size", [("A", 7), ("AB", 3), ("AAA", 3), ("BB", 5), ("BAB", 5)])
def test_what_the_mask_explorer_marks_as_seen_is_the_receptive_field(types, size):
    layers = [MaskedConv2d(kind, 1, 1, size) for kind in types]
    masks = [raster_mask(kind, 1, 1, size)[0, 0] for kind in types]
    seen = explorers._seen(masks, (6, 5), (11, 13))
    assert torch.equal(seen, receptive_field(nn.Sequential(*layers), (6, 5), (1, 11, 13)))


def test_every_control_of_the_reach_explorer_redraws_it():
    controls, image = parts(widgets.reach_explorer())
    moves = {"first kernel": 5, "later ones": 7, "layers": 16}
    assert set(controls) == set(moves)
    for name, value in moves.items():
        before = image.value
        controls[name].value = value
        assert image.value != before, name
        assert drawn(image).format == "PNG" and f"{name} {value}" in alt_of(image)


@pytest.mark.parametrize("sizes", [(7,), (3, 3), (7, 3, 3, 3), (3, 5, 5), (9, 7, 7, 7, 7, 7)])
def test_the_reach_explorer_counts_and_colours_what_is_seen_and_missed(sizes):
    kinds = "A" + "B" * (len(sizes) - 1)
    net = nn.Sequential(*(MaskedConv2d(kind, 1, 1, size) for kind, size in zip(kinds, sizes, strict=True)))
    seen, missed = receptive_field(net, (14, 14)), blind_spot(net, (14, 14))
    axis = explorers._reach(sizes[0], sizes[-1], len(sizes)).axes[0]
    assert f"{int(seen.sum())} of 406 seen" in axis.get_title()
    assert f"{int(missed.sum())} more within reach and missed" in axis.get_title()
    drawn = torch.from_numpy(axis.images[0].get_array().data)
    assert torch.equal(drawn == 1, seen) and torch.equal(drawn == 2, missed)
    assert int((drawn == 4).sum()) == 406 - int(seen.sum()) - int(missed.sum())


def test_every_control_of_the_attention_explorer_redraws_it():
    pictures = torch.randint(0, 256, (3, 1, 6, 6), dtype=torch.uint8)
    maps = [torch.rand(3, 2, 36, 36).tril().softmax(-1) for _ in range(2)]
    controls, image = parts(widgets.attention_explorer(pictures, maps))
    moves = {"image": 2, "row": 5, "column": 0}
    assert set(controls) == set(moves)
    for name, value in moves.items():
        before = image.value
        controls[name].value = value
        assert image.value != before, name
        assert drawn(image).format == "PNG" and f"{name} {value}" in alt_of(image)


def test_an_attention_map_puts_place_k_on_pixel_k_minus_1_and_leaves_later_ones_pale():
    weights = torch.zeros(36)
    weights[0], weights[8], weights[20] = 0.5, 0.4, 0.1  # the start token, pixel (1, 1) and a later place
    axis = plots.attention(weights, (3, 0), torch.zeros(1, 6, 6, dtype=torch.uint8)).axes[0]
    drawn = torch.from_numpy(axis.images[0].get_array().data)
    orange = (drawn - torch.tensor(plots.mpl.colors.to_rgb(plots.ORANGE))).abs().amax(-1) < 1e-5
    assert orange.nonzero().tolist() == [[1, 1]]
    assert (drawn.flatten(0, 1)[18:] == 0.75).all()
