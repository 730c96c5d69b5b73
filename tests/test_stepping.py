"""What must hold of the fronts, and of the layers that compute front after front."""

import pytest
import torch

import pixelhelpers as ph
from pixelhelpers.stepping import Wavefront
from tests.register import step_through


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
