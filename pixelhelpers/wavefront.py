"""Which pixels can be drawn together, and how their features lie in memory.

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
from torch import Tensor


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
        lag: by how many columns a row must be ahead of the row below it, at least 1.
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
        self.above, self.before = above, before
        self.features = sum(groups)
        self.groups = groups
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


class DrawnRows:
    """The row of pixels that is being drawn and the one above it, for models that shift the image before they look.

    Both hold the scaled image and one more channel of ones; where nothing has been drawn, or lies beyond the
    edge, all channels are zero.

    Arguments:
        wave: the fronts, of one pixel each.
    """

    def __init__(self, wave: Wavefront):
        self.blank = wave.like.new_zeros(wave.count, wave.channels + 1, 1, wave.width)
        self.above, self.row = self.blank.clone(), self.blank.clone()

    def begin(self, row: int) -> Tensor:
        """Moves on to the row with this number and gives the one above it, `[N, C + 1, 1, W]`."""
        if row:
            self.above.copy_(self.row)
        self.row.copy_(self.blank)
        self.row[:, -1] = 1
        return self.above

    def left(self, column: int) -> Tensor:
        """Gives the pixel to the left of this column, `[N, C + 1]`."""
        return self.row[:, :, 0, column - 1] if column else self.blank[:, :, 0, 0]

    def pixel(self, column: int) -> Tensor:
        """Gives the pixel in this column without the ones, `[N, C]`."""
        return self.row[:, :-1, 0, column]

    def put(self, channel: int, column: int, values: Tensor) -> None:
        """Stores what one channel of the pixels in this column became, scaled, `[N]`."""
        self.row[:, channel, 0, column] = values
