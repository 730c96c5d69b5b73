"""A model that is no part of the package: what a new one has to bring so that everything holds of it.

Every pixel depends on the rows right above it, and in colour on the earlier channels of its own pixel.
"""

from torch import Tensor, nn

from pixelhelpers.distributions import Categorical
from pixelhelpers.layers import DownShiftedConv2d, MaskedConv2d, RowStep, group_sizes, shift_down
from pixelhelpers.models.base import AutoregressiveModel, Stepper, at_least
from pixelhelpers.models.heads import SoftmaxHead
from pixelhelpers.stepping import DrawnRows, Front, Wavefront, by_column


class RowsAbove(AutoregressiveModel):
    """One convolution over the rows above, and a softmax.

    Arguments:
        levels, image_channels, image_size, classes, hidden, dropout: as for `GatedPixelCNN`.
        blocks: number of rows above that a pixel sees.
    """

    def __init__(self, *, levels=256, image_channels=1, image_size=28, classes=None, hidden=16, blocks=1, dropout=0.0):
        super().__init__(
            levels=levels, image_channels=image_channels, image_size=image_size, classes=classes, dropout=dropout
        )
        at_least(1, hidden=hidden, blocks=blocks)
        self.above = DownShiftedConv2d(image_channels, hidden, (blocks, 3))
        self.class_bias = None if classes is None else nn.Embedding(classes, hidden)
        self.dropout = nn.Dropout(dropout)
        self.earlier = MaskedConv2d("A", image_channels, hidden, 1, image_channels) if image_channels > 1 else None
        self.head = SoftmaxHead(hidden, levels, image_channels)

    def forward(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        x, label = self.scale(x), self.labels(label, len(x))
        h = self.dropout(self.above(shift_down(x)))
        if label is not None:
            h = h + self.class_bias(label)[:, :, None, None]
        return self.head(h if self.earlier is None else h + self.earlier(x))

    def pixel_layers(self) -> list[nn.Module]:
        return super().pixel_layers() + ([] if self.earlier is None else [self.earlier])

    def stepper(self, wave: Wavefront, label: Tensor | None = None) -> "RowsAboveStep":
        return RowsAboveStep(self, wave, label)


class RowsAboveStep(Stepper):
    """`RowsAbove.forward` for one pixel: the convolution when a row begins, the head for every value."""

    def __init__(self, model: RowsAbove, wave: Wavefront, label: Tensor | None):
        super().__init__(model, wave)
        self.above, self.head, self.rows = RowStep(model.above), model.head.stepper(wave), DrawnRows(wave)
        self.class_bias = 0 if label is None else model.class_bias(label)
        self.earlier = None if model.earlier is None else model.earlier.stepper(wave)
        self.from_above: Tensor | None = None  # what the rows above give each pixel, [column, image, feature]

    def predict(self, front: Front) -> Categorical:
        if self.rows.enter(front):
            self.from_above = by_column(self.above(self.rows.above[:, :-1])) + self.class_bias
        h = self.from_above[self.wave.column(front)]
        h = h.split(group_sizes(h.shape[1], self.wave.channels), 1)[front.channel].clone()
        return self.head(front, h if self.earlier is None else self.earlier(front, onto=h))

    def put(self, front: Front, levels: Tensor) -> None:
        values = self.scaled[levels]
        self.rows.put(front, values)
        if self.earlier is not None:
            self.earlier.put(front, values)
