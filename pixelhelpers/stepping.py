"""The other way to run: `raster_order`; a `Front` of pixels, all `Fronts` of a batch, the `Wavefront`; the caches
`Past` and `DrawnRows`; `beside_earlier`; `by_column`; and the steps of convolutions.

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

In a model of two stacks the upper one looks to the right in its own row, too, so layers add up: when a pixel is
drawn, its last layer must have got as far as that pixel, the layer before it one column further, and so on to the
image itself. That is a pipeline: while a front is drawn, each layer works on a front further on, as many columns
ahead as the layers after it look, and `lag` is the whole reach. The fronts are the same; a layer's time is later.
Neighbouring fronts that a layer takes at once are a band: one product for all of them reads the weights once.
"""

from collections.abc import Iterator
from itertools import accumulate, groupby
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
    it image by image. Those of a band, of several columns, hold one front after the other.
    """

    time: int  # column + lag * row, equal for all its pixels
    first: int  # the topmost row
    rows: int  # how many rows, from there downwards
    channel: int  # the image channel
    size: int  # rows * count
    pixels: slice  # where its pixels stand in `Wavefront.pixels`
    columns: int = 1  # more in a band: this front and those after it, of the same rows


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

    def pieces(self, by_front: Tensor) -> list[Tensor]:
        """Cuts what `by_front` gives into the values of front after front, each `[front.size]`, without a copy."""
        sizes = [front.size for front in self if front.channel == 0]
        by_channel = [channel.split(sizes) for channel in by_front.flatten(1)]
        return [piece for of_pixels in zip(*by_channel, strict=True) for piece in of_pixels]

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
        lag: by how many columns a row must be ahead of the row below it, at least 1; `WHOLE_ROW`: by all. Where it
            is more than a row has, a front is a single pixel, and at some times there is none.
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
        self.lag = width if lag == WHOLE_ROW else lag
        self.time = torch.arange(width) + self.lag * torch.arange(height)[:, None]
        super().__init__(count, shape, like, self.time.flatten().argsort(stable=True))
        self.fronts: dict[
            int, Front
        ] = {}  # by time, of the first channel; where rows are short, not all times have one
        begin = 0
        for time in range(width + self.lag * (height - 1)):
            first = max(0, -((width - 1 - time) // self.lag))
            rows = min(height - 1, time // self.lag) - first + 1
            if rows > 0:
                self.fronts[time] = Front(time, first, rows, 0, rows * count, slice(begin, begin + rows))
                begin += rows

    def column(self, front: Front) -> int:
        """The column of a front's topmost pixel."""
        return front.time - front.first * self.lag

    def at(self, row: int, column: int) -> Front:
        """The front of this pixel's first channel."""
        return self.fronts[column + self.lag * row]

    def bands(self, after: int, last: int) -> Iterator[Front]:
        """The fronts of the first channel with after < time <= last, those of the same rows in one piece: a band."""
        fronts = [self.fronts[time] for time in range(after + 1, last + 1) if time in self.fronts]
        for _, band in groupby(fronts, key=lambda front: (front.first, front.rows)):
            front, *others = band
            yield front._replace(columns=1 + len(others)) if others else front

    def __len__(self) -> int:
        return len(self.fronts) * self.channels

    def __iter__(self) -> Iterator[Front]:
        for front in self.fronts.values():
            yield front
            for channel in range(1, self.channels):
                yield front._replace(channel=channel)


class Past:
    """What a convolution has been given so far, so stored that a product reads it in place.

    One matrix product gives the outputs of a whole front: its left factor has one line per pixel of the
    front, holding the pixel's neighbourhood. No line is ever put together; each is a piece of memory:

    - A cell (row, column) holds the features of the pixels (row - above, column) … (row, column), so the
      cells of neighbouring columns, one after the other, are the neighbourhood. The price is that
      features are written above + 1 times.
    - Lines of a product must lie at equal distances. Between the pixels of a front, one row down and
      `lag` columns left, they do when each row of cells begins `lag` cells further on than it would need to.

    Cells beyond the edges stay zero, as padding does. Layers of one form can share a past: finding their pieces
    together is quicker. Then `own` and `window` have one more axis in front, the layers.

    Arguments:
        wave: the fronts.
        groups: how many features belong to each image channel.
        above: how many rows up the kernel looks.
        before: how many columns to the left.
        ahead: how many columns to the right, in the rows above.
        level: whether it does so in the pixel's own row, too.
        layers: how many layers share it; None: one alone.
    """

    def __init__(
        self,
        wave: Wavefront,
        groups: list[int],
        above: int,
        before: int,
        ahead: int,
        level: bool = False,
        layers: int | None = None,
    ):
        self.above, self.before, self.groups, self.features = above, before, groups, sum(groups)
        self.begins = [sum(groups[:channel]) for channel in range(len(groups))]
        self.cell = (self.above + 1) * self.features
        self.line = (wave.width + before + ahead) * self.cell  # a row of cells of one image
        self.row = wave.count * self.line + wave.lag * self.cell  # the same of all images
        self.down = wave.count * self.line  # from a pixel of a front to the next one, a row below
        # The newest features of the last column belong to the pixel's own row: the kernel may be shut there.
        self.reach = (before + 1 + ahead) * self.cell - (self.features if ahead and not level else 0)
        size = (wave.height + self.above) * self.row
        self.layers, self.between = ((), ()) if layers is None else ((layers,), (size,))
        self.memory = wave.like.new_zeros(*self.layers, size)

    def right_factors(self, kernel: Tensor, outputs: list[int]) -> list[Tensor]:
        """Lays a kernel `[out, in, rows, columns]` out as `window` does; one part for the outputs of each channel."""
        factor = kernel.detach().permute(3, 2, 1, 0).flatten(0, 2)[: self.reach]
        return [part.contiguous() for part in factor.split(outputs, 1)]

    def own(self, front: Front) -> Tensor:
        """Where the features of the front's channel belong, `[above + 1, front.columns, front.size, features]`."""
        own = front.first * self.down + (front.time + self.before) * self.cell + self.above * self.features
        return self.memory.as_strided(
            (*self.layers, self.above + 1, front.columns, front.size, self.groups[front.channel]),
            (*self.between, self.row - self.features, self.cell, self.line, 1),
            own + self.begins[front.channel],
        )

    def put(self, front: Front, x: Tensor) -> None:
        """Stores the features `[front.columns * front.size, features of front.channel]`."""
        self.own(front).copy_(x if front.columns == 1 else x.view(front.columns, front.size, -1))

    def window(self, front: Front) -> Tensor:
        """Gives the neighbourhoods, `[front.columns * front.size, reach]`: by column, then by row, then by feature.

        Those of a single front are read in place, those of a band are copied: they overlap.
        """
        begin = front.first * self.down + front.time * self.cell
        if front.columns == 1:
            return self.memory.as_strided((*self.layers, front.size, self.reach), (*self.between, self.line, 1), begin)
        columns = (*self.layers, front.columns, front.size, self.reach)
        columns = self.memory.as_strided(columns, (*self.between, self.cell, self.line, 1), begin)
        return columns.reshape(*self.layers, -1, self.reach)


def beside_earlier(size: int, groups: list[int], like: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Makes memory for features of pixels, for each image channel the place of its own, and of these with earlier ones.

    Arguments:
        size: number of pixels.
        groups: how many features belong to each image channel.
        like: a tensor of the precision and on the device of the features.

    Example:
        >>> [(own.shape[1], all.shape[1]) for own, all in beside_earlier(5, [3, 2, 2], like=torch.zeros(()))]
        [(3, 3), (2, 5), (2, 7)]
    """
    memory, ends = like.new_empty(size, sum(groups)), accumulate(groups)
    return [(memory[:, end - own : end], memory[:, :end]) for own, end in zip(groups, ends, strict=True)]


class ConvStep:
    """A causal convolution that computes front after front and remembers what it has been given.

    For image channel c it computes the features of that channel only; those of earlier channels of the
    same pixels must have been given before. It works on a copy of the weights, takes part in no gradient
    and ends with the sampling call that it was made for.

    Arguments:
        wave: the fronts.
        weight: `[out, in, rows, columns]`, without what is always masked.
        bias: `[out]`, or `[N, out]` where images have biases of their own; None: none.
        window: how far it looks up, left, and right in the rows above, and whether it looks to the right in its
            own row, too; None: it sees the pixel itself only.
        inputs: how many of its inputs belong to each image channel; None: all to one.
        outputs: how many of its outputs do.
    """

    def __init__(
        self,
        wave: Wavefront,
        weight: Tensor,
        bias: Tensor | None,
        window: tuple[int, int, int, bool] | None,
        inputs: list[int] | None = None,
        outputs: list[int] | None = None,
    ):
        inputs, outputs = inputs or [weight.shape[1]], outputs or [weight.shape[0]]
        self.past = None if window is None else Past(wave, inputs, *window)
        if self.past is None:  # nothing but the pixel itself, up to the channel in question
            parts = enumerate(weight.detach()[:, :, 0, 0].T.split(outputs, 1))
            self.weight = [part[: sum(inputs[: channel + 1])].contiguous() for channel, part in parts]
        else:
            self.weight = self.past.right_factors(weight, outputs)
        self.bias = None
        if bias is not None:
            bias = bias[0] if bias.dim() == 2 and len(bias) == 1 else bias  # a single image's own bias is that of all
            self.bias = bias.detach().split(outputs, -1)
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
        channel = front.channel
        if self.past is not None:
            if x is not None:
                self.past.put(front, x)
            x = self.past.window(front)
        elif len(self.weight) > 1:
            if x is not None:
                self.put(front, x)
            x = self.now[0] if len(self.now) == 1 else torch.cat(self.now, 1)
        weight = self.weight[channel]
        y = torch.mm(x, weight) if onto is None else onto.addmm_(x, weight)
        if self.bias is None:
            return y
        bias = self.bias[channel]  # quicker than `torch.addmm(bias, x, weight)`, which first copies it into every line
        (y if bias.dim() == 1 else y.view(-1, *bias.shape)).add_(bias)
        return y


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

    Both hold the scaled image and one more channel of ones; beyond the edge, all channels are zero.

    Arguments:
        wave: the fronts, of one pixel each.
    """

    def __init__(self, wave: Wavefront):
        self.wave = wave
        self.fresh = wave.like.new_zeros(wave.width, wave.count, wave.channels + 1)
        self.fresh[..., -1] = 1
        self.row = torch.cat((torch.zeros_like(self.fresh[:1]), torch.zeros_like(self.fresh)))  # from column -1 on
        self.pixels = self.row.unbind(0)
        self.places = [channel.unsqueeze(2).unbind(0) for channel in self.row[..., :-1].unbind(2)]
        self.rows_above = torch.zeros_like(self.fresh)
        self.above = self.rows_above.permute(1, 2, 0).unsqueeze(2)  # [N, C + 1, 1, W]

    def enter(self, front: Front) -> bool:
        """Moves on to the front's row, if the front is its first one; says whether. `above` is then the row before."""
        if front.channel or self.wave.column(front):
            return False
        self.rows_above.copy_(self.row[1:])
        self.row[1:].copy_(self.fresh)
        return True

    def left(self, front: Front) -> Tensor:
        """Gives the pixel to the left of the front's, `[N, C + 1]`."""
        return self.pixels[self.wave.column(front)]

    def pixel(self, front: Front) -> Tensor:
        """Gives the front's pixel without the ones, `[N, C]`."""
        return self.pixels[self.wave.column(front) + 1][:, :-1]

    def put(self, front: Front, values: Tensor) -> None:
        """Stores what the front's values became, scaled, `[N, 1]`."""
        self.places[front.channel][self.wave.column(front) + 1].copy_(values)

    def read(self, values: Tensor) -> Tensor:
        """Stores a whole row, scaled, `[C, W, N]`; gives the pixels to the left of its pixels, `[W * N, C + 1]`."""
        self.row[1:, :, :-1].copy_(values.permute(1, 2, 0))
        return self.row[:-1].flatten(0, 1)


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
