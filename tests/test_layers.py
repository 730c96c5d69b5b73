"""Masked convolutions: what acts, what it costs, how it starts."""

import itertools
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

import pixelhelpers as ph
from pixelhelpers.layers import (
    DownShiftedConv2d,
    GatedBlock,
    MaskedConv2d,
    ResidualBlock,
    channel_groups,
    gate,
    raster_mask,
    shift_down,
)


def mask_by_definition(mask_type, inputs, outputs, size, channels):
    """Opens a tap whose value comes earlier in raster order, then channel (B: or is the value)."""
    group_of = [
        [group for group, part in enumerate(np.array_split(range(n), channels)) for _ in part]
        for n in (inputs, outputs)
    ]
    rows, columns = size if isinstance(size, tuple) else (size, size)
    mask = torch.zeros(outputs, inputs, rows, columns, dtype=torch.bool)
    for o, i, row, column in itertools.product(*(range(n) for n in mask.shape)):
        tap = (row, column, group_of[0][i])
        own = (rows // 2, columns // 2, group_of[1][o])
        mask[o, i, row, column] = tap < own or (mask_type == "B" and tap == own)
    return mask


def random_layers(count=12):
    """Yields random settings of `MaskedConv2d`; features are a multiple of the channels."""
    chance = random.Random(0)
    for _ in range(count):
        channels = chance.choice([1, 1, 3])
        inputs, outputs = (channels * chance.randint(1, 3) for _ in range(2))
        yield chance.choice("AB"), inputs, outputs, chance.choice([1, 3, 5, 7, (1, 5), (1, 7), (3, 5)]), channels


@pytest.mark.parametrize("setting", list(random_layers()))
def test_a_masked_convolution_is_a_plain_one_with_the_full_masked_kernel(setting):
    torch.manual_seed(0)
    layer = MaskedConv2d(*setting).double()
    mask = mask_by_definition(*setting)
    assert torch.equal(layer.mask.expand_as(mask), mask)
    x = torch.randn(2, setting[1], 6, 5, dtype=torch.float64)
    plain = F.conv2d(x, layer.weight * mask, layer.bias, padding="same")
    torch.testing.assert_close(layer(x), plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("setting", list(random_layers()))
def test_masked_weights_never_act_and_their_gradient_is_exactly_zero(setting):
    torch.manual_seed(0)
    layer, mask = MaskedConv2d(*setting), mask_by_definition(*setting)
    x = torch.randn(2, setting[1], 6, 5)
    before = layer(x)
    before.square().sum().backward()
    assert (layer.weight.grad[~mask] == 0).all()
    if mask.any():
        assert (layer.weight.grad[mask] != 0).any()
    with torch.no_grad():
        layer.weight[~mask] = 1e6
    assert torch.equal(layer(x), before)


def test_one_optimizer_step_leaves_the_masked_weights_without_effect():
    torch.manual_seed(0)
    layer = MaskedConv2d("A", 1, 4, 3)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1, weight_decay=0.1)
    layer(torch.randn(2, 1, 5, 5)).square().sum().backward()
    optimizer.step()
    x = torch.randn(1, 1, 5, 5)
    later = x.clone()
    later[..., 2, 2:] += 1
    later[..., 3:, :] += 1
    assert torch.equal(layer(later)[..., :2, :], layer(x)[..., :2, :])
    assert torch.equal(layer(later)[..., 2, :3], layer(x)[..., 2, :3])


@pytest.mark.parametrize("inputs, outputs, size", [(1, 8, 7), (8, 4, 3), (4, 6, 5), (6, 2, 1)])
def test_rows_that_are_always_masked_are_never_computed(inputs, outputs, size):
    layer = MaskedConv2d("B", inputs, outputs, size)
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(2, inputs, 9, 8))
    rows = size // 2 + 1
    assert counter.get_total_flops() == 2 * (2 * 9 * 8) * outputs * inputs * rows * size


def test_columns_that_are_always_masked_are_never_computed():
    layer = MaskedConv2d("B", 2, 3, (1, 7))
    with FlopCounterMode(display=False) as counter:
        layer(torch.zeros(2, 2, 9, 8))
    assert counter.get_total_flops() == 2 * (2 * 9 * 8) * 2 * 3 * 4


@pytest.mark.parametrize(
    "mask_type, inputs, size, channels, live",
    [
        ("A", 1, 7, 1, [24] * 3),
        ("B", 64, 3, 1, [64 * 5] * 3),
        ("B", 64, 1, 1, [64] * 3),
        ("A", 3, 3, 3, [12, 13, 14]),
    ],
)
@torch.no_grad()
def test_the_initial_scale_counts_live_taps_only(mask_type, inputs, size, channels, live):
    torch.manual_seed(0)
    width = 300  # outputs of each channel group
    layer = MaskedConv2d(mask_type, inputs, 3 * width, size, channels)
    mask = layer.mask.expand_as(layer.weight)
    for group, taps in zip(range(3), live, strict=True):
        rows = slice(group * width, (group + 1) * width)
        bound = taps**-0.5
        assert layer.weight[rows].abs().max() <= bound
        assert float(layer.weight[rows][mask[rows]].std()) == pytest.approx(bound / 3**0.5, rel=0.05)
        assert 0.97 * bound < layer.bias[rows].abs().max() <= bound
    # Inputs of variance 1 then give outputs of variance 1/3, whatever the kernel (bias aside).
    layer.bias.zero_()
    side = size + 2
    out = layer(torch.randn(60, inputs, side, side))[..., side // 2, side // 2]
    assert float(out.std()) == pytest.approx(3**-0.5, rel=0.1)


def test_a_layer_whose_taps_are_all_masked_gives_its_bias():
    layer = MaskedConv2d("A", 1, 3, 1)
    out = layer(torch.randn(2, 1, 4, 4))
    assert torch.equal(out, layer.bias.view(1, 3, 1, 1).expand(2, 3, 4, 4))


def test_a_mask_is_no_weight_and_is_not_saved():
    assert set(MaskedConv2d("A", 1, 2, 3).state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("setting", [("B", 4, 4, 3, 1), ("A", 3, 6, 5, 3)])
def test_the_memory_layout_changes_nothing(setting):
    torch.manual_seed(0)
    layer, x = MaskedConv2d(*setting).double(), torch.randn(2, setting[1], 6, 5).double()
    other = layer(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(other, layer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "setting, words",
    [
        (("C", 1, 1, 3), "mask_type is 'C'"),
        (("A", 1, 1, 4), "kernel_size is 4: give odd"),
        (("A", 1, 1, (1, 4)), r"kernel_size is \(1, 4\): give odd"),
        (("A", 1, 1, -1), "kernel_size is -1: give odd"),
        (("A", 3, 2, 3, 3), "2 features cannot be shared among 3"),
    ],
)
def test_bad_settings_are_refused_with_what_to_give(setting, words):
    with pytest.raises(ValueError, match=words):
        MaskedConv2d(*setting)
    with pytest.raises(ValueError, match=words):
        raster_mask(*setting)


@pytest.mark.parametrize("features, channels", [(3, 3), (7, 3), (8, 3), (768, 3), (5, 1)])
def test_channel_groups_rise_and_are_as_equal_as_can_be(features, channels):
    groups = channel_groups(features, channels)
    sizes = groups.bincount(minlength=channels)
    assert groups.tolist() == sorted(groups.tolist()) and len(groups) == features
    assert sizes.max() - sizes.min() <= 1 and len(sizes) == channels


def test_a_residual_block_squeezes_to_half_the_features_and_back_all_in_type_b():
    block = ResidualBlock(12, kernel_size=5)
    layers = [module for module in block.modules() if isinstance(module, MaskedConv2d)]
    assert [layer.in_channels for layer in layers] == [12, 6, 6]
    assert [layer.out_channels for layer in layers] == [6, 6, 12]
    assert [layer.kernel_size for layer in layers] == [(1, 1), (5, 5), (1, 1)]
    assert {layer.mask_type for layer in layers} == {"B"}


def test_a_residual_block_adds_its_input_exactly_once():
    block = ResidualBlock(8)
    x = torch.randn(2, 8, 5, 5)
    for parameter in block.widen.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(block(x), x)


def test_a_residual_block_computes_what_the_paper_draws():
    torch.manual_seed(0)
    block, x = ResidualBlock(6).double(), torch.randn(2, 6, 5, 4).double()
    mask = mask_by_definition("B", 1, 1, 3, 1)
    h = F.conv2d(x.relu(), block.squeeze.weight, block.squeeze.bias)
    h = F.conv2d(h.relu(), block.look.weight * mask, block.look.bias, padding=1)
    h = F.conv2d(h.relu(), block.widen.weight, block.widen.bias)
    torch.testing.assert_close(block(x), x + h, rtol=1e-12, atol=1e-12)


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    block, x = ResidualBlock(16, dropout=0.5), torch.randn(1, 16, 6, 6)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))


# -- the two stacks of Gated PixelCNN -----------------------------------------------------------------


@pytest.mark.parametrize("rows, columns", [(1, 1), (2, 3), (3, 7), (4, 1), (1, 5)])
def test_a_down_shifted_convolution_sees_its_row_and_those_above_on_both_sides(rows, columns):
    seen = ph.receptive_field(DownShiftedConv2d(1, 4, (rows, columns)), at=(5, 5), shape=(1, 9, 11))
    expected = torch.zeros(9, 11, dtype=torch.bool)
    expected[6 - rows : 6, 5 - columns // 2 : 6 + columns // 2] = True
    assert torch.equal(seen, expected)


@pytest.mark.parametrize("rows, columns", [(1, 3), (2, 3), (3, 7)])
def test_a_down_shifted_convolution_steps_row_by_row(rows, columns):
    torch.manual_seed(0)
    layer, x = DownShiftedConv2d(3, 4, (rows, columns)).double(), torch.randn(2, 3, 6, 5).double()
    step = layer.stepper()
    stepped = torch.cat([step(row) for row in x.split(1, 2)], 2)
    torch.testing.assert_close(stepped, layer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(0, 3), (2, 4), (1, -1)])
def test_a_down_shifted_kernel_needs_a_middle_column(size):
    with pytest.raises(ValueError, match="columns odd"):
        DownShiftedConv2d(1, 1, size)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_gate_joins_features_of_one_channel(channels):
    x = torch.randn(2, 4 * channels, 3, 3, dtype=torch.float64)
    parts = [part.chunk(2, 1) for part in x.chunk(channels, 1)]
    expected = torch.cat([value.tanh() * strength.sigmoid() for value, strength in parts], 1)
    assert torch.equal(gate(x, channels), expected)
    assert gate(x.contiguous(memory_format=torch.channels_last)).is_contiguous(memory_format=torch.channels_last)


def test_a_gated_block_computes_what_the_paper_draws():
    torch.manual_seed(0)
    block, label = GatedBlock(4, classes=3).double(), torch.tensor([2, 0])
    v, h = torch.randn(2, 2, 4, 5, 6).double()
    padded = F.conv2d(F.pad(v, (1, 1, 1, 0)), block.down.weight, block.down.bias)
    left = block.across.weight * torch.tensor([1, 1, 0])
    across = F.conv2d(h, left, block.across.bias, padding=(0, 1)) + block.link(padded)
    to_v, to_h = block.class_bias(label)[:, :, None, None].split(8, 1)

    def gated(x):
        return x[:, :4].tanh() * x[:, 4:].sigmoid()

    new_v, new_h = block(v, h, label)
    torch.testing.assert_close(new_v, gated(padded + to_v), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(new_h, h + block.out(gated(across + to_h)), rtol=1e-12, atol=1e-12)


def test_shifting_down_brings_in_zeros_and_never_wraps():
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(shift_down(x)[:, :, 1:], x[:, :, :-1]) and not shift_down(x)[:, :, 0].any()
