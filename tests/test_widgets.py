"""The widgets: a moved control redraws the picture, and what is drawn is true."""

import io

import pytest
import torch
from PIL import Image
from torch import nn

from pixelhelpers import MaskedConv2d, blind_spot, receptive_field, widgets
from pixelhelpers.layers import raster_mask


def parts(box):
    row, image = box.children
    return {control.description: control for control in row.children}, image


def test_every_control_of_the_mask_explorer_redraws_it():
    controls, image = parts(widgets.mask_explorer())
    moves = {"first layer": "B", "later layers": "A", "kernel": 5, "layers": 4}
    assert set(controls) == set(moves)
    for name, value in moves.items():
        before = image.value
        controls[name].value = value
        assert image.value != before, name
        assert Image.open(io.BytesIO(image.value)).format == "PNG"


def test_the_mask_explorer_draws_every_setting():
    controls, image = parts(widgets.mask_explorer())
    for size in (3, 7):
        for depth in (1, 8):
            controls["kernel"].value, controls["layers"].value = size, depth
            assert Image.open(io.BytesIO(image.value)).width > 500


@pytest.mark.parametrize("types, size", [("A", 7), ("AB", 3), ("AAA", 3), ("BB", 5), ("BAB", 5)])
def test_what_the_mask_explorer_marks_as_seen_is_the_receptive_field(types, size):
    layers = [MaskedConv2d(kind, 1, 1, size) for kind in types]
    masks = [raster_mask(kind, 1, 1, size)[0, 0] for kind in types]
    seen = widgets._seen(masks, (6, 5), (11, 13))
    assert torch.equal(seen, receptive_field(nn.Sequential(*layers), (6, 5), (1, 11, 13)))


def test_every_control_of_the_reach_explorer_redraws_it():
    controls, image = parts(widgets.reach_explorer())
    moves = {"first kernel": 5, "later ones": 7, "layers": 16}
    assert set(controls) == set(moves)
    for name, value in moves.items():
        before = image.value
        controls[name].value = value
        assert image.value != before, name
        assert Image.open(io.BytesIO(image.value)).format == "PNG"


@pytest.mark.parametrize("sizes", [(7,), (3, 3), (7, 3, 3, 3), (3, 5, 5), (9, 7, 7, 7, 7, 7)])
def test_the_reach_explorer_counts_and_colours_what_is_seen_and_missed(sizes):
    kinds = "A" + "B" * (len(sizes) - 1)
    net = nn.Sequential(*(MaskedConv2d(kind, 1, 1, size) for kind, size in zip(kinds, sizes, strict=True)))
    seen, missed = receptive_field(net, (14, 14)), blind_spot(net, (14, 14))
    axis = widgets._reach(sizes[0], sizes[-1], len(sizes)).axes[0]
    assert f"{int(seen.sum())} of 406 seen" in axis.get_title()
    assert f"{int(missed.sum())} more within reach and missed" in axis.get_title()
    drawn = torch.from_numpy(axis.images[0].get_array().data)
    assert torch.equal(drawn == 1, seen) and torch.equal(drawn == 2, missed)
    assert int((drawn == 4).sum()) == 406 - int(seen.sum()) - int(missed.sum())
