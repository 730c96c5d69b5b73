"""What must hold of the fronts, and of the layers that compute front after front."""

import pytest
import torch
from torch import nn

import pixelhelpers as ph
from pixelhelpers.layers import DownShiftedConv2d, ReluStep, group_sizes, shift_down
from pixelhelpers.models import gated
from pixelhelpers.models.pixelcnn import ResidualBlocksStep
from pixelhelpers.stepping import Past, Wavefront
from tests.register import small, step_through


def fronts(count, shape, lag):
    return Wavefront(count, shape, lag, like=torch.zeros(()))


@pytest.mark.parametrize("lag", [1, 2, 4, 50])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 1), (1, 1, 5), (3, 4, 7), (2, 9, 3)])
def test_every_value_belongs_to_one_front(shape, lag):
    wave = fronts(2, shape, lag)
    values = torch.arange(2 * shape[0] * shape[1] * shape[2]).view(2, *shape)
    by_front = wave.by_front(values)
    assert torch.equal(wave.by_image(by_front), values)
    pieces = torch.cat([by_front[front.channel, front.pixels].flatten() for front in wave])
    assert pieces.sort().values.tolist() == values.flatten().tolist()
    assert len(wave) == len(list(wave)) and sum(front.size for front in wave) == values.numel()
    cut = wave.pieces(by_front)
    assert [piece.tolist() for piece in cut] == [by_front[f.channel, f.pixels].flatten().tolist() for f in wave]
    assert all(piece.data_ptr() >= by_front.data_ptr() for piece in cut)  # views: what is drawn is written there


@pytest.mark.parametrize("lag", [2, 5, 12])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 6, 4), (1, 5, 30)])
def test_bands_are_neighbouring_fronts_of_the_same_rows(shape, lag):
    wave = fronts(2, shape, lag)
    alone = {front.time: front for front in wave if front.channel == 0}
    times, most = [], 0
    for after in range(-4, int(wave.time.max()) + 4, 3):
        for band in wave.bands(after, after + 3):
            members = [alone[band.time + column] for column in range(band.columns)]
            assert {(front.first, front.rows) for front in members} == {(band.first, band.rows)}
            assert members[0] == band._replace(columns=1) and after < members[0].time
            times, most = times + [front.time for front in members], max(most, band.columns)
    assert times == sorted(alone) and (most == 3 or shape[2] < 6)


@pytest.mark.parametrize("lag", [1, 3, 4])
def test_a_front_holds_what_it_says(lag):
    shape = (2, 5, 7)
    wave = fronts(3, shape, lag)
    at = torch.stack(torch.meshgrid(*map(torch.arange, (3, *shape)), indexing="ij"), -1)  # image, channel, row, column
    by_front = [wave.by_front(at[..., axis]) for axis in range(4)]
    for front in wave:
        image, channel, row, column = (values[front.channel, front.pixels] for values in by_front)
        assert (channel == front.channel).all() and (column + lag * row == front.time).all()
        assert row[:, 0].tolist() == list(range(front.first, front.first + front.rows))
        assert (image == torch.arange(3)).all()


def test_a_front_sees_earlier_fronts_only():
    model = ph.PixelCNN(levels=4, hidden=12, blocks=3)
    wave = fronts(1, (1, 9, 9), model.lag)
    latest = -99
    for row, column in ((8, 0), (8, 4), (5, 2), (8, 8)):
        seen = ph.receptive_field(model, at=(row, column), shape=(1, 9, 9))
        assert (wave.time[seen] < wave.time[row, column]).all()
        latest = max(latest, int((wave.time[seen] - wave.time[row, column]).max()))
    assert latest == -1  # a smaller lag would not do


def test_a_lag_that_is_too_small_is_noticed(monkeypatch):
    """That the lag matters: with one column less, a step misses a pixel that `forward` sees."""
    torch.manual_seed(0)
    model = ph.PixelCNN(levels=5, hidden=12, blocks=2).double().eval()
    images = torch.randint(0, 5, (2, 1, 6, 9), dtype=torch.uint8)
    monkeypatch.setattr(ph.PixelCNN, "lag", model.lag - 1)
    stepped, whole = step_through(model, images)
    assert (stepped - whole).abs().max() > 1e-6


@pytest.mark.parametrize("blocks", [1, 3])
def test_rows_of_two_stacks_wait_as_long_as_they_must_and_no_longer(blocks, monkeypatch):
    torch.manual_seed(0)
    model = ph.GatedPixelCNN(levels=5, hidden=12, blocks=blocks).double().eval()
    images = torch.randint(0, 5, (2, 1, 4, 30), dtype=torch.uint8)
    seen = ph.receptive_field(model, at=(3, 9), shape=(1, 4, 30))
    reach = int(seen[2].nonzero().max()) - 9
    assert model.lag == reach + gated.AT_ONCE
    assert len(model.fronts(2, (1, 4, 30), like=images)) == 30 + 3 * model.lag < 4 * 30
    stepped, whole = step_through(model, images)
    assert (stepped - whole).abs().max() < 1e-12
    monkeypatch.setattr(ph.GatedPixelCNN, "lag", model.lag - 1)
    stepped, whole = step_through(model, images)
    assert (stepped - whole).abs().max() > 1e-6


@pytest.mark.parametrize("at_once", [1, 2, 7])
@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (20, 1), (3, 4), (4, 33)])
def test_however_many_fronts_a_stack_takes_at_once_it_sees_the_same(shape, at_once, monkeypatch):
    model = small(ph.GatedPixelCNN, image_channels=3, classes=3, blocks=2)
    monkeypatch.setattr(gated, "AT_ONCE", at_once)
    stepped, whole = step_through(model, torch.randint(0, 5, (3, 3, *shape)), torch.tensor([2, 0, 1]))
    assert (stepped - whole).abs().max() < 1e-9


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize("kernel_size", [(1, 1), (2, 3), (3, 7), (2, 1)])
def test_a_layer_that_looks_to_the_right_steps_behind_what_it_is_given(kernel_size, at_once, shifted):
    torch.manual_seed(0)
    layer, x = DownShiftedConv2d(2, 7, kernel_size).double(), torch.randn(3, 2, 4, 17, dtype=torch.float64)
    wave = Wavefront(3, (2, 4, 17), layer.ahead + at_once, like=x)
    step = layer.stepper(wave, image_channels=2 if shifted else None)
    expected = layer(shift_down(x) if shifted else x)
    inputs, outputs = (y.flatten(2)[..., wave.pixels].permute(2, 0, 1) for y in (x, expected))  # [H * W, N, features]
    after = -1 - layer.ahead
    for time in range(after + at_once, int(wave.time.max()) + at_once, at_once):
        for front in wave.bands(after + layer.ahead, time + layer.ahead):
            pixels = slice(front.pixels.start, front.pixels.start + front.columns * front.rows)
            new = inputs[pixels].flatten(0, 1)
            for channel, features in enumerate(new.split(1, 1) if shifted else [new]):
                step.put(front._replace(channel=channel), features)
        for band in wave.bands(after, time):
            pixels = slice(band.pixels.start, band.pixels.start + band.columns * band.rows)
            assert torch.allclose(step(band), outputs[pixels].flatten(0, 1), atol=1e-12)
        after = time
    assert after >= int(wave.time.max())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_relu_and_a_convolution_need_no_bias_before(channels):
    torch.manual_seed(0)
    layer = ph.MaskedConv2d("B", 6, 7, 1, channels).double()
    x, lacks = torch.randn(4, 6, 2, 3, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    wave = Wavefront(4, (channels, 2, 3), 2, like=x)
    step = ReluStep(layer, wave, lacks)
    expected = layer((x + lacks[:, None, None]).relu()).flatten(2)[..., wave.pixels].permute(2, 0, 1)
    inputs = x.flatten(2)[..., wave.pixels].permute(2, 0, 1)
    of_inputs, of_outputs = (group_sizes(features, channels) for features in (6, 7))
    for front in wave:
        y = step(front, inputs[front.pixels].flatten(0, 1).split(of_inputs, 1)[front.channel])
        wanted = (expected[front.pixels].flatten(0, 1) - step.lacks).split(of_outputs, 1)[front.channel]
        assert torch.allclose(y, wanted, atol=1e-12) and step.lacks.abs().min() > 1e-6


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("blocks", "kernel_size"), [(1, 3), (3, 3), (2, 5)])
def test_all_blocks_step_as_they_run(blocks, kernel_size, channels):
    torch.manual_seed(0)
    hidden = 4 * channels + 2
    layers = nn.Sequential(*(ph.ResidualBlock(hidden, kernel_size, 0.0, channels) for _ in range(blocks))).double()
    x = torch.randn(2, hidden, 5, 9, dtype=torch.float64)
    wave = Wavefront(2, (channels, 5, 9), layers[0].look.lag + 1, like=x)
    with torch.no_grad():
        step = ResidualBlocksStep(layers, wave)
        expected = layers(x).flatten(2)[..., wave.pixels].permute(2, 0, 1)
    inputs, groups, sizes = x.flatten(2)[..., wave.pixels].permute(2, 0, 1), group_sizes(hidden, channels), set()
    for front in wave:
        y = step(front, inputs[front.pixels].flatten(0, 1).split(groups, 1)[front.channel].clone())
        wanted = (expected[front.pixels].flatten(0, 1) - step.lacks).split(groups, 1)[front.channel]
        assert torch.allclose(y, wanted, atol=1e-12)
        sizes.add(front.size)
    assert len(sizes) > 1 and step.lacks.abs().min() > 1e-6


@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_stem_and_a_head_step_without_blocks(channels, classes):
    model = small(ph.PixelCNN, image_channels=channels, classes=classes, blocks=0)
    labels = None if classes is None else torch.tensor([2, 0])
    stepped, whole = step_through(model, torch.randint(0, 5, (2, channels, 5, 6)), labels)
    assert (stepped - whole).abs().max() < 1e-12


@pytest.mark.parametrize("level", [False, True])
def test_layers_that_share_a_past_find_what_each_would_find_alone(level):
    torch.manual_seed(0)
    wave, groups = Wavefront(2, (2, 4, 7), 3, like=torch.zeros((), dtype=torch.float64)), [3, 2]
    together = Past(wave, groups, 1, 2, 2, level, layers=3)
    alone = [Past(wave, groups, 1, 2, 2, level) for _ in range(3)]
    seen = 0.0
    for front in wave:
        features = torch.randn(3, front.size, groups[front.channel], dtype=torch.float64)
        for own, past, x in zip(together.own(front).unbind(0), alone, features, strict=True):
            own.copy_(x)
            past.put(front, x)
        (band,) = wave.bands(front.time - 1, front.time)
        for piece in (front, band._replace(columns=2) if front.time < 6 else front):
            windows = together.window(piece)
            assert torch.equal(windows, torch.stack([past.window(piece) for past in alone]))
            seen += float(windows.abs().sum())
    assert seen > 0


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
@pytest.mark.parametrize("mask_type", ["A", "B"])
def test_a_layer_steps_as_it_runs(mask_type, kernel_size, channels):
    torch.manual_seed(0)
    layer = ph.MaskedConv2d(mask_type, 2 * channels, 7, kernel_size, channels).double()
    x = torch.randn(2, 2 * channels, 5, 6, dtype=torch.float64)
    wave = Wavefront(2, (channels, 5, 6), layer.lag, like=x)
    step = layer.stepper(wave)
    inputs = x.unflatten(1, (channels, 2)).flatten(3)[..., wave.pixels].permute(1, 3, 0, 2)  # [C, H * W, N, 2]
    outputs = layer(x).flatten(2)[..., wave.pixels].permute(2, 0, 1)  # [H * W, N, 7]
    of_output = ph.layers.channel_groups(7, channels)
    for front in wave:
        new = inputs[front.channel, front.pixels].reshape(front.size, 2)
        if mask_type == "A":
            y = step(front)
            step.put(front, new)
        else:
            y = step(front, new)
        expected = outputs[front.pixels].reshape(front.size, 7)[:, of_output == front.channel]
        assert torch.allclose(y, expected, atol=1e-12)
