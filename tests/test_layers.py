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
    DownRightShiftedConv2d,
    DownRightShiftedConvTranspose2d,
    DownShiftedConv2d,
    DownShiftedConvTranspose2d,
    MaskedConv2d,
    RowStep,
    channel_groups,
    raster_mask,
    shift_down,
    shift_right,
)
from pixelhelpers.models.gated import GatedBlock, gate
from pixelhelpers.models.pixelcnn import ResidualBlock
from pixelhelpers.rewriting import ShiftedPair, rewritten, to_masked, to_shifted
from pixelhelpers.stepping import Wavefront


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
    step = RowStep(layer)
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


# -- shifted convolutions of PixelCNN++, and their masked twins -----------------------------------------


def region(layer, row, column, shape=(9, 11)):
    """By definition: which inputs output (row, column) of a shifted convolution sees."""
    rows, columns = layer.kernel_size
    seen = torch.zeros(shape, dtype=torch.bool)
    first = column - columns // 2 if isinstance(layer, DownShiftedConv2d) else column - columns + 1
    seen[max(0, row - rows + 1) : row + 1, max(0, first) : first + columns] = True
    return seen


def influence(layer, x, *shape):
    """Which inputs act on which outputs, by gradients of a layer with positive weights, `[in, out]`."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.abs_()
    x = x.clone().requires_grad_()
    out = layer(x, *shape).sum((0, 1)).flatten()
    return torch.stack([torch.autograd.grad(value, x, retain_graph=True)[0].sum((0, 1)) != 0 for value in out], -1)


@pytest.mark.parametrize("rows, columns", [(1, 1), (2, 2), (2, 1), (1, 3), (4, 2)])
def test_a_down_right_shifted_convolution_sees_up_and_left_and_itself(rows, columns):
    layer = DownRightShiftedConv2d(1, 4, (rows, columns))
    assert torch.equal(ph.receptive_field(layer, at=(5, 6), shape=(1, 9, 11)), region(layer, 5, 6))


@pytest.mark.parametrize("kind, size", [(DownShiftedConv2d, (2, 3)), (DownRightShiftedConv2d, (2, 2))])
@pytest.mark.parametrize("height, width", [(6, 8), (7, 5), (1, 1), (2, 3)])
def test_stride_two_is_every_second_output_and_steps_to_it(kind, size, height, width):
    torch.manual_seed(0)
    plain, x = kind(3, 4, size).double(), torch.randn(2, 3, height, width).double()
    strided = kind(3, 4, size, stride=2).double()
    strided.load_state_dict(plain.state_dict())
    torch.testing.assert_close(strided(x), plain(x)[:, :, ::2, ::2], rtol=1e-12, atol=1e-12)
    if kind is DownShiftedConv2d:
        step = RowStep(strided)
        rows = [step(row) for row in x.split(1, 2)]
        assert [row is None for row in rows] == [number % 2 == 1 for number in range(height)]
        torch.testing.assert_close(torch.cat(rows[::2], 2), strided(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rows, columns", [(2, 2), (2, 1), (1, 3)])
def test_a_down_right_shifted_convolution_steps_pixel_by_pixel(rows, columns):
    torch.manual_seed(0)
    layer, x = DownRightShiftedConv2d(3, 4, (rows, columns)).double(), torch.randn(2, 3, 5, 6).double()
    wave = Wavefront(2, (1, 5, 6), 6, like=x)
    step = layer.stepper(wave)
    stepped = torch.stack([step(front, x.flatten(2)[:, :, pixel]) for pixel, front in enumerate(wave)], -1)
    torch.testing.assert_close(stepped.view(2, 4, 5, 6), layer(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [DownShiftedConvTranspose2d, DownRightShiftedConvTranspose2d])
@pytest.mark.parametrize("height, width", [(6, 8), (7, 5), (1, 1)])
def test_a_transposed_layer_tells_an_output_only_what_lies_above_or_to_the_left(kind, height, width):
    small = torch.ones(1, 2, (height + 1) // 2, (width + 1) // 2)
    layer = kind(2, 3)
    assert layer(small, (height, width)).shape == (1, 3, height, width)
    acts = influence(layer, small, (height, width)).view(*small.shape[2:], height, width)
    for i, j, row, column in itertools.product(*(range(side) for side in acts.shape)):
        on_row = row // 2 == i
        beside = column // 2 == j if kind is DownRightShiftedConvTranspose2d else 2 * j - 1 <= column <= 2 * j + 1
        assert bool(acts[i, j, row, column]) == (on_row and beside)


@pytest.mark.parametrize("stride", [0, 3])
def test_other_strides_and_empty_kernels_are_refused(stride):
    for kind, size in ((DownShiftedConv2d, (2, 3)), (DownRightShiftedConv2d, (2, 2))):
        with pytest.raises(ValueError, match="to halve"):
            kind(1, 1, size, stride=stride)
    with pytest.raises(ValueError, match=r"at least \(1, 1\)"):
        DownRightShiftedConv2d(1, 1, (0, 2))


def test_shifting_right_brings_in_zeros_and_never_wraps():
    x = torch.randn(2, 3, 4, 5)
    assert torch.equal(shift_right(x)[..., 1:], x[..., :-1]) and not shift_right(x)[..., 0].any()


@pytest.mark.parametrize("mask_type, size", [("A", 3), ("A", 7), ("B", 1), ("B", 3), ("B", 5)])
def test_a_masked_convolution_is_the_sum_of_two_shifted_ones(mask_type, size):
    torch.manual_seed(0)
    masked, x = MaskedConv2d(mask_type, 3, 4, size).double(), torch.randn(2, 3, 6, 5).double()
    pair = to_shifted(masked)
    torch.testing.assert_close(pair(x), masked(x), rtol=1e-12, atol=1e-12)
    live = int(masked.mask.sum()) * 12 + 4  # as many weights as the mask leaves open
    assert sum(weight.numel() for weight in pair.parameters()) == live


def test_trained_from_the_same_start_masked_and_shifted_have_the_same_losses():
    torch.manual_seed(0)
    masked = ph.PixelCNN(levels=5, hidden=8, blocks=1).double()
    twins = [masked, rewritten(masked, MaskedConv2d, to_shifted)]
    x = torch.randint(5, (8, 1, 6, 6))
    losses = []
    for model in twins:
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
        losses.append([])
        for _ in range(10):
            loss = -model.log_prob(x).mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses[-1].append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-9) and losses[0][-1] < losses[0][0]


@pytest.mark.parametrize(
    "layer, live",
    [
        (DownShiftedConv2d(2, 3, (2, 3)), 6),
        (DownShiftedConv2d(2, 3, (2, 3), stride=2), 6),
        (DownRightShiftedConv2d(2, 3, (2, 2)), 4),
        (DownRightShiftedConv2d(2, 3, (2, 2), stride=2), 4),
        (DownShiftedConv2d(2, 3, (3, 5), stride=2, bias=False), 15),
        (DownRightShiftedConv2d(2, 3, (2, 1)), 2),
        (DownShiftedConvTranspose2d(2, 3), 6),
        (DownRightShiftedConvTranspose2d(2, 3), 4),
    ],
    ids=str,
)
@pytest.mark.parametrize("height, width", [(6, 8), (7, 5), (1, 2)])
def test_a_shifted_convolution_is_one_with_a_square_masked_kernel(layer, live, height, width):
    layer = layer.double()
    masked = to_masked(layer)
    shape = (2, 2, height, width)
    more = ()
    if isinstance(layer, nn.ConvTranspose2d):
        shape, more = (2, 2, (height + 1) // 2, (width + 1) // 2), ((height, width),)
    x = torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(masked(x, *more), layer(x, *more), rtol=1e-12, atol=1e-12)
    assert masked.kernel_size[0] == masked.kernel_size[1]
    assert int((masked.weight[0, 0] != 0).sum()) == live
    masked(x, *more).square().sum().backward()
    before = masked.weight.detach().clone()
    torch.optim.Adam(masked.parameters(), lr=0.1).step()
    assert torch.equal(masked.weight == 0, before == 0) and not torch.equal(masked.weight, before)


def test_what_cannot_be_converted_is_refused():
    with pytest.raises(ValueError, match="3 image channels"):
        to_shifted(MaskedConv2d("A", 3, 6, 7, image_channels=3))
    with pytest.raises(ValueError, match="1x7"):
        to_shifted(MaskedConv2d("A", 1, 6, (1, 7)))
    with pytest.raises(TypeError, match="Conv2d: give a shifted"):
        to_masked(nn.Conv2d(1, 1, 3))
    with pytest.raises(ValueError, match="mask_type is 'C': give 'A'"):
        ShiftedPair("C", 1, 1, 3)
    for mask_type, size in (("A", 1), ("A", 0), ("A", 4), ("B", 4), ("B", 0), ("B", -1)):
        with pytest.raises(ValueError, match=f"kernel_size is {size}: give an odd number, for type A at least 3"):
            ShiftedPair(mask_type, 1, 1, size)


def test_rewriting_leaves_the_model_as_it_was():
    model = ph.PixelCNN(hidden=4, blocks=1)
    other = rewritten(model, MaskedConv2d, to_shifted)
    assert any(isinstance(layer, MaskedConv2d) for layer in model.modules())
    assert not any(isinstance(layer, MaskedConv2d) for layer in other.modules())
