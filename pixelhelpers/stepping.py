"""The other way to run: `raster_order`; a `Front` of pixels, all `Fronts` of a batch, the `Wavefront`; the caches
`Past` and `DrawnRows`; `by_column`; and the steps of convolutions.

A masked convolution with a kernel of side k looks k // 2 columns to the right in the rows above. So the
first pixel of a row need not wait for the end of the row above: it is enough that the row above is
`lag` = k // 2 + 1 pixels ahead. All pixels with the same

    time = column + lag * row

form a front: a line that goes `lag` columns to the left with each row down. In the row r rows up, a pixel
sees at most r * (k // 2) columns to the right, however many layers there are, and the front is r * lag
columns further on there. So no pixel of a front sees another, and all that they see belongs to earlier
fronts. Drawing front after front gives the very same image as drawing pixel after pixel, in
width + lag * (height - 1) turns instead of width * height. A model whose pixels see all earlier ones has
lag = width: then a front is a single pixel, and this is raster order.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

WHOLE_ROW = 1 << 30  # a lag of more than any width: a row must be complete before the next one begins


def raster_order(shape: tuple[int, int, int]) -> Tensor:
    """Gives the rank of every value in raster order, then by channel.

    Arguments:
        shape: (channels, height, width).

    Returns:
        int64 `[C, H, W]`.

    Example:
        >>> raster_order((2, 1, 3))
        tensor([[[0, 2, 4]],
        <BLANKLINE>
                [[1, 3, 5]]])
    """
    channels, height, width = shape
    return torch.arange(channels * height * width).view(height, width, channels).permute(2, 0, 1)


class Front(NamedTuple):
    """One image channel of one pixel in each of several rows: the values that are computed together.

    Tensors that belong to a front have `size` = rows * count rows, row of pixels by row of pixels and in
    it image by image.
    """

    time: int  # column + lag * row, equal for all its pixels
    first: int  # the topmost row
    rows: int  # how many rows, from there downwards
    channel: int  # the image channel
    size: int  # rows * count
    pixels: slice  # where its pixels stand in `Wavefront.pixels`


class Fronts:
    """A batch of images cut into fronts, in the order of drawing; iterating gives the fronts.

    Arguments:
        count: number of images.
        shape: (C, H, W) of an image.
        like: a tensor of the precision and on the device of the features.
        pixels: the raster numbers of all pixels, front by front, int64 `[H * W]`.
    """

    def __init__(self, count: int, shape: tuple[int, int, int], like: Tensor, pixels: Tensor):
        self.count, self.like, self.pixels = count, like, pixels
        self.channels, self.height, self.width = shape

    def __iter__(self) -> Iterator[Front]:
        raise NotImplementedError

    def by_front(self, values: Tensor) -> Tensor:
        """Sorts values `[N, C, H, W]` so that those of a front are one piece: `[C, H * W, N]`.

        The piece of a front is `[front.channel, front.pixels]`.
        """
        return values.flatten(2)[:, :, self.pixels.to(values.device)].permute(1, 2, 0).contiguous()

    def by_image(self, values: Tensor) -> Tensor:
        """Undoes `by_front`."""
        images = values.new_empty(self.count, self.channels, self.height * self.width)
        images[:, :, self.pixels.to(values.device)] = values.permute(2, 0, 1)
        return images.unflatten(2, (self.height, self.width))


class Wavefront(Fronts):
    """Fronts that are lines of pixels, as far apart as causal convolutions need.

    Arguments:
        count: number of images.
        shape: (C, H, W) of an image.
        lag: by how many columns a row must be ahead of the row below it, at least 1; `WHOLE_ROW`: by all.
        like: a tensor of the precision and on the device of the features.

    Example:
        >>> wave = Wavefront(1, (1, 3, 4), lag=2, like=torch.zeros(()))
        >>> wave.time
        tensor([[0, 1, 2, 3],
                [2, 3, 4, 5],
                [4, 5, 6, 7]])
        >>> [front.rows for front in wave]
        [1, 1, 2, 2, 2, 2, 1, 1]
    """

    def __init__(self, count: int, shape: tuple[int, int, int], lag: int, like: Tensor):
        _, height, width = shape
        self.lag = min(lag, width)
        self.time = torch.arange(width) + self.lag * torch.arange(height)[:, None]
        super().__init__(count, shape, like, self.time.flatten().argsort(stable=True))

    def column(self, front: Front) -> int:
        """The column of a front's topmost pixel."""
        return front.time - front.first * self.lag

    def at(self, row: int, column: int) -> Front:
        """The front of this pixel's first channel, where a front is a single pixel (`WHOLE_ROW`)."""
        number = row * self.width + column
        return Front(number, row, 1, 0, self.count, slice(number, number + 1))

    def __len__(self) -> int:
        return (self.width + self.lag * (self.height - 1)) * self.channels

    def __iter__(self) -> Iterator[Front]:
        begin = 0
        for time in range(len(self) // self.channels):
            first = max(0, -((self.width - 1 - time) // self.lag))
            rows = min(self.height - 1, time // self.lag) - first + 1
            for channel in range(self.channels):
                yield Front(time, first, rows, channel, rows * self.count, slice(begin, begin + rows))
            begin += rows


class Past:
    """What a convolution has been given so far, so stored that a product reads it in place.

    One matrix product gives the outputs of a whole front: its left factor has one line per pixel of the
    front, holding the pixel's neighbourhood. No line is ever put together; each is a piece of memory:

    - A cell (row, column) holds the features of the pixels (row - above, column) … (row, column), so the
      cells of neighbouring columns, one after the other, are the neighbourhood. The price is that
      features are written above + 1 times.
    - Lines of a product must lie at equal distances. Between the pixels of a front, one row down and
      `lag` columns left, they do when each row of cells begins `lag` cells further on than it would need to.

    Cells beyond the edges stay zero, as padding does.

    Arguments:
        wave: the fronts.
        groups: how many features belong to each image channel.
        above: how many rows up the kernel looks.
        before: how many columns to the left.
        ahead: how many columns to the right, in the rows above.
    """

    def __init__(self, wave: Wavefront, groups: list[int], above: int, before: int, ahead: int):
        self.above, self.before, self.groups, self.features = above, before, groups, sum(groups)
        self.begins = [sum(groups[:channel]) for channel in range(len(groups))]
        self.cell = (self.above + 1) * self.features
        self.line = (wave.width + before + ahead) * self.cell  # a row of cells of one image
        self.row = wave.count * self.line + wave.lag * self.cell  # the same of all images
        self.down = wave.count * self.line  # from a pixel of a front to the next one, a row below
        # The last column's newest pixels lie to the right, if it does: the kernel is shut there.
        self.reach = (before + 1 + ahead) * self.cell - (self.features if ahead else 0)
        self.memory = wave.like.new_zeros((wave.height + self.above) * self.row)

    def put(self, front: Front, x: Tensor) -> None:
        """Stores the features `[front.size, features of front.channel]`."""
        own = front.first * self.down + (front.time + self.before) * self.cell + self.above * self.features
        self.memory.as_strided(
            (self.above + 1, front.size, self.groups[front.channel]),
            (self.row - self.features, self.line, 1),
            own + self.begins[front.channel],
        ).copy_(x)

    def window(self, front: Front) -> Tensor:
        """Gives the neighbourhoods, `[front.size, reach]`: by column, then by row, then by feature."""
        return self.memory.as_strided(
            (front.size, self.reach), (self.line, 1), front.first * self.down + front.time * self.cell
        )


class ConvStep:
    """A causal convolution that computes front after front and remembers what it has been given.

    For image channel c it computes the features of that channel only; those of earlier channels of the
    same pixels must have been given before. It works on a copy of the weights, takes part in no gradient
    and ends with the sampling call that it was made for.

    Arguments:
        wave: the fronts.
        weight: `[out, in, rows, columns]`, without what is always masked.
        bias: `[out]`.
        window: how far it looks up, left, and right in the rows above; None: it sees the pixel itself only.
        inputs: how many of its inputs belong to each image channel; None: all to one.
        outputs: how many of its outputs do.
    """

    def __init__(
        self,
        wave: Wavefront,
        weight: Tensor,
        bias: Tensor,
        window: tuple[int, int, int] | None,
        inputs: list[int] | None = None,
        outputs: list[int] | None = None,
    ):
        inputs, outputs = inputs or [weight.shape[1]], outputs or [weight.shape[0]]
        weight = weight.detach().permute(3, 2, 1, 0).flatten(0, 2)  # (column, row, input), output: as in Past.window
        self.past = None
        if window is not None:
            self.past = Past(wave, inputs, *window)
            weight = weight[: self.past.reach]
        self.weight = [part.contiguous() for part in weight.split(outputs, 1)]
        self.bias = bias.detach().split(outputs)
        if self.past is None:  # nothing but the pixel itself, up to the channel in question
            self.weight = [part[: sum(inputs[: c + 1])] for c, part in enumerate(self.weight)]
        self.now: list[Tensor] = []

    def put(self, front: Front, x: Tensor) -> None:
        """Gives the layer the features `[front.size, inputs of front.channel]`."""
        if self.past is None:
            self.now[front.channel :] = [x]
        else:
            self.past.put(front, x)

    def __call__(self, front: Front, x: Tensor | None = None, onto: Tensor | None = None) -> Tensor:
        """Computes `[front.size, outputs of front.channel]`.

        Arguments:
            front: the front.
            x: what `put` takes; None for a layer of type A, which gets it after it is drawn.
            onto: features to add the result to, in place.
        """
        if x is not None:
            self.put(front, x)
        if self.past is not None:
            seen = self.past.window(front)
        else:
            seen = self.now[0] if len(self.now) == 1 else torch.cat(self.now, 1)
        weight, bias = self.weight[front.channel], self.bias[front.channel]
        # Quicker than `torch.addmm(bias, seen, weight)`, which first copies the bias into every line.
        return (torch.mm(seen, weight) if onto is None else onto.addmm_(seen, weight)).add_(bias)


class PixelStep:
    """A 1x1 convolution for single pixels, from `[N, in]` to `[N, out]`.

    Arguments:
        layer: the convolution.
    """

    def __init__(self, layer: nn.Conv2d):
        self.weight = layer.weight.detach()[:, :, 0, 0].T.contiguous()
        self.bias = None if layer.bias is None else layer.bias.detach()

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.weight if self.bias is None else torch.addmm(self.bias, x, self.weight)

    def onto(self, features: Tensor, x: Tensor) -> Tensor:
        """Adds the result, of a layer without a bias, to features, in place."""
        return features.addmm_(x, self.weight)


class DrawnRows:
    """The row of pixels that is being drawn and the one above it, for models that shift the image before they look.

    Both hold the scaled image and one more channel of ones; where nothing has been drawn, or lies beyond the
    edge, all channels are zero.

    Arguments:
        wave: the fronts, of one pixel each.
    """

    def __init__(self, wave: Wavefront):
        self.wave = wave
        self.blank = wave.like.new_zeros(wave.count, wave.channels + 1, 1, wave.width)
        self.above, self.row = self.blank.clone(), self.blank.clone()

    def enter(self, front: Front) -> bool:
        """Moves on to the front's row, if the front is its first one; says whether. `above` is then the row before."""
        if front.channel or self.wave.column(front):
            return False
        if front.first:
            self.above.copy_(self.row)
        self.row.copy_(self.blank)
        self.row[:, -1] = 1
        return True

    def left(self, front: Front) -> Tensor:
        """Gives the pixel to the left of the front's, `[N, C + 1]`."""
        column = self.wave.column(front)
        return self.row[:, :, 0, column - 1] if column else self.blank[:, :, 0, 0]

    def pixel(self, front: Front) -> Tensor:
        """Gives the front's pixel without the ones, `[N, C]`."""
        return self.row[:, :-1, 0, self.wave.column(front)]

    def put(self, front: Front, values: Tensor) -> None:
        """Stores what the front's values became, scaled, `[N, 1]`."""
        self.row[:, front.channel, 0, self.wave.column(front)] = values[:, 0]


def by_column(row: Tensor) -> Tensor:
    """Lays the features of a row out pixel by pixel, for the steps that read them one after the other.

    Arguments:
        row: `[N, features, 1, W]`.

    Returns:
        `[W, N, features]`.

    Example:
        >>> by_column(torch.zeros(2, 8, 1, 28)).shape
        torch.Size([28, 2, 8])
    """
    return row[:, :, 0].permute(2, 0, 1).contiguous()
