"""PixelSNAIL: `positions`, `CausalAttention`, `SnailBlock` and `PixelSNAIL`, convolutions and attention in turn.

Implemented: the architecture of Chen et al. 2018 for grey and colour images, with class conditioning. Blocks
of gated causal convolutions look around a pixel; after them an attention layer looks at the whole past at
once. The features of a pixel know of earlier pixels only; what attention reads of an earlier pixel, its keys
and values, holds these features and the pixel itself. So no pixel may read its own, and the first one has
none to read: keys and values are moved on by one pixel, and a learned start token takes the first place.

Different from the authors' code, as their command for CIFAR-10 runs it: they shut the diagonal of the mask and
let the first pixel read zeros instead of moving keys and values on behind a start token; they make queries,
keys and values by gated blocks, here they are linear maps; their keys have 16 numbers and their values 128, here
both have as many as the features; pixels' places enter as sines and cosines of several wavelengths instead of
one ramp for rows and one for columns; there are several attention heads instead of one, and two convolution
blocks before each attention layer instead of four; the stem sees 3x7 pixels above and 3 to the left instead of
1x3 and 2x1; the activation is concat-ELU, as in PixelCNN++, instead of the plain ELU; weights are neither
normalised nor initialised from data; and the network is far smaller. Not implemented: attention at half the size.

References:
    Chen, Mishra, Rohaninejad, Abbeel, "PixelSNAIL: An Improved Autoregressive Generative Model", 2018,
    https://arxiv.org/abs/1712.09763; its code is https://github.com/neocxi/pixelsnail-public
    Vaswani et al., "Attention Is All You Need", 2017, sections 3.2 and 3.5, https://arxiv.org/abs/1706.03762
"""

import math

import torch
from torch import Tensor, nn

from ..errors import require
from ..layers import (
    DownRightShiftedConv2d,
    DownShiftedConv2d,
    MaskedConv2d,
    RowStep,
    group_sizes,
    shift_down,
    shift_right,
)
from ..stepping import WHOLE_ROW, DrawnRows, Front, PixelStep, Wavefront, by_column
from .base import AutoregressiveModel, Recipe, Stepper, at_least
from .heads import Conditionals, MixtureHead, SoftmaxHead
from .plusplus import GatedResidual, ResidualPixelStep, concat_elu

WAVELENGTHS = 5  # of 4, 8, 16, 32 and 64 pixels: places repeat after 64


def positions(height: int, width: int, like: Tensor) -> Tensor:
    """Tells a pixel's place: sines and cosines of its row and of its column, at several wavelengths.

    A step of so many pixels turns each pair by a fixed angle, wherever it begins: so products of places can
    depend on how far apart two pixels are. Places repeat after 64 pixels, the longest wavelength.

    Arguments:
        height: rows.
        width: columns.
        like: a tensor of the precision and on the device wanted.

    Returns:
        `[1, 4 * wavelengths, height, width]`, in [-1, 1].

    References:
        Vaswani et al. 2017, section 3.5, for rows and columns.

    Example:
        >>> positions(28, 28, torch.zeros(())).shape
        torch.Size([1, 20, 28, 28])
    """
    exact = {"dtype": torch.promote_types(like.dtype, torch.float32), "device": like.device}
    rate = 2 * math.pi / 2 ** torch.arange(2, 2 + WAVELENGTHS, **exact)
    rows, columns = (rate[:, None] * torch.arange(side, **exact) for side in (height, width))
    rows, columns = (torch.cat((angle.sin(), angle.cos())) for angle in (rows, columns))  # [2 * wavelengths, side]
    planes = (rows[:, :, None].expand(-1, -1, width), columns[:, None].expand(-1, height, -1))
    return torch.cat(planes)[None].to(like)


class CausalAttention(nn.Module):
    """Multi-head attention of every pixel to all earlier ones, and to a start token before the first.

    A query is made from what a pixel's features know before it is drawn; keys and values also from the pixel
    itself. They are moved on by one place, so that place i holds pixel i - 1 and place 0 the start token;
    then each query may see the places up to its own. The layer knows nothing of places: `positions` belong
    among the features.

    Arguments:
        features: number of features that queries are made from, and keys and values too.
        extra: number of further features that only keys and values get: the image itself.
        hidden: number of features of the result, shared among the heads.
        heads: number of heads, a divisor of `hidden`.

    Shapes:
        `x` `[N, features, H, W]`, `image` `[N, extra, H, W]`; result `[N, hidden, H, W]`.

    References:
        Chen et al. 2018; Vaswani et al. 2017, section 3.2.

    Example:
        >>> layer = CausalAttention(features=8, extra=1, hidden=16, heads=2)
        >>> layer(torch.zeros(2, 8, 7, 7), torch.zeros(2, 1, 7, 7)).shape
        torch.Size([2, 16, 7, 7])
    """

    def __init__(self, features: int, extra: int, hidden: int, heads: int):
        super().__init__()
        require(
            heads >= 1 and hidden % heads == 0,
            f"heads is {heads}: give a divisor of {hidden}, the number of features they share.",
        )
        self.heads = heads
        self.query = nn.Conv2d(features, hidden, 1)
        self.key_value = nn.Conv2d(features + extra, 2 * hidden, 1)
        self.start = nn.Parameter(torch.zeros(2 * hidden))  # key and value

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        query, key, value = self.query_key_value(x, image)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return mixed.transpose(2, 3).flatten(1, 2).unflatten(2, x.shape[-2:])

    def query_key_value(self, x: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gives the three as `[N, heads, H * W, hidden / heads]`, keys and values moved on by one place."""
        query = self._by_head(self.query(x).flatten(2))
        places = self.key_value(torch.cat((x, image), 1)).flatten(2)
        start = self.start.to(places.dtype).expand(len(places), -1)[..., None]
        key, value = torch.cat((start, places[..., :-1]), 2).chunk(2, 1)
        return query, self._by_head(key), self._by_head(value)

    def weights(self, x: Tensor, image: Tensor) -> Tensor:
        """Gives what `forward` weighs values with, `[N, heads, H * W, H * W]`: query, then place (0: the start)."""
        query, key, _ = self.query_key_value(x, image)
        products = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        later = torch.ones(products.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        return products.masked_fill(later, -math.inf).softmax(-1)

    def _by_head(self, features: Tensor) -> Tensor:
        return features.unflatten(1, (self.heads, -1)).transpose(2, 3).contiguous()


class AttentionStep:
    """`CausalAttention.forward` for one pixel after the other, with the keys and values of all earlier ones kept.

    Call it with the next pixel's query, then `put` its key and value once it is drawn.

    Arguments:
        layer: the attention layer.
        wave: the fronts, of one pixel each.
    """

    def __init__(self, layer: CausalAttention, wave: Wavefront):
        self.count, self.heads, self.places = wave.count, layer.heads, 1
        size, places = layer.query.out_channels // layer.heads, wave.height * wave.width
        self.scale = 1 / math.sqrt(size)
        both = wave.like.new_empty(2, wave.count, layer.heads, places, size)  # keys and values
        self.keys, self.values = both.flatten(1, 2)
        self.by_place = both.permute(3, 1, 0, 2, 4).unbind(0)  # [N, key or value, head, feature]
        self.by_place[0].copy_(layer.start.detach().view(2, layer.heads, size))

    def __call__(self, query: Tensor) -> Tensor:
        """From and to `[N, hidden]`."""
        query = query.reshape(self.count * self.heads, 1, -1)
        keys, values = self.keys[:, : self.places], self.values[:, : self.places]
        products = torch.bmm(query, keys.transpose(1, 2))
        return torch.bmm(products.mul_(self.scale).softmax(-1), values).view(self.count, -1)

    def put(self, key_value: Tensor) -> None:
        """Adds a drawn pixel's key and value, `[N, 2 * hidden]`."""
        if self.places < len(self.by_place):  # none comes after the last one
            place = self.by_place[self.places]
            place.copy_(key_value.view(place.shape))
            self.places += 1


class SnailBlock(nn.Module):
    """Two gated causal convolution blocks that look around, an attention layer that looks back, and their merger.

    Arguments:
        hidden: number of features.
        image_channels: number of image channels, which keys and values are also made from.
        heads: number of attention heads, a divisor of `hidden`.
        classes: number of classes to condition on, or None.
        dropout: probability in [0, 1) that a feature between the convolutions is dropped in training.

    Shapes:
        input and output `[N, hidden, H, W]`; `image` `[N, C, H, W]`, scaled; `place` what `positions` gives;
        `label` `[N]`.

    References:
        Chen et al. 2018.
    """

    def __init__(self, hidden: int, image_channels: int, heads: int, classes: int | None, dropout: float):
        super().__init__()
        self.look = nn.ModuleList(
            GatedResidual(lambda *io: DownRightShiftedConv2d(*io, (2, 2)), hidden, 0, classes, dropout)
            for _ in range(2)
        )
        self.attention = CausalAttention(2 * hidden + 4 * WAVELENGTHS, image_channels, hidden, heads)
        self.merge = GatedResidual(lambda *io: DownRightShiftedConv2d(*io, (1, 1)), hidden, 1, classes, dropout)

    def forward(self, x: Tensor, image: Tensor, place: Tensor, label: Tensor | None) -> Tensor:
        for block in self.look:
            x = block(x, label=label)
        return self.merge(x, self.attention(self.content(x, place), image), label=label)

    def content(self, x: Tensor, place: Tensor) -> Tensor:
        """What the attention layer reads of features and places."""
        return torch.cat((concat_elu(x), place.expand(len(x), *place.shape[1:])), 1)


class SnailBlockStep:
    """`SnailBlock.forward` for one pixel, in two parts: before it is drawn, and after.

    Query, key, value and the merging block's first convolution are all made from the same features, by one product;
    what they get from a pixel's place is computed once, and what keys and values get from the pixel itself is added
    once it is drawn.
    """

    def __init__(self, block: SnailBlock, wave: Wavefront, label: Tensor | None, place: Tensor):
        self.look = [ResidualPixelStep(part, wave, label) for part in block.look]
        self.attention, self.merge = AttentionStep(block.attention, wave), ResidualPixelStep(block.merge, wave, label)
        self.link = PixelStep(block.merge.links[0])
        layers = (block.attention.query, block.attention.key_value, block.merge.look)
        self.sizes = [layer.out_channels for layer in layers]
        query, key_value, look = (layer.weight.detach()[:, :, 0, 0].T for layer in layers)  # [in, out]
        features, places = len(look), place.shape[1]
        query, query_of_place = query.split([features, places])
        key_value, key_value_of_place, self.image = key_value.split(
            [features, places, len(key_value) - features - places]
        )
        self.weight = torch.cat((query, key_value, look), 1)
        of_place = torch.cat((query_of_place, key_value_of_place, look.new_zeros(places, self.sizes[-1])), 1)
        bias = torch.cat([layer.bias.detach() for layer in layers])
        self.bias = (place @ of_place + bias).unbind(0)  # of every pixel
        self.key_value: Tensor | None = None  # of the pixel that is being drawn, as far as they are known

    def __call__(self, front: Front, x: Tensor) -> Tensor:
        for look in self.look:
            x = look(front, x, concat_elu(x))
        made = torch.addmm(self.bias[front.time], concat_elu(x), self.weight)
        query, self.key_value, h = made.split(self.sizes, 1)
        h = self.link.onto(h, concat_elu(self.attention(query)))
        return self.merge.gated(front, x, h)

    def put(self, image: Tensor) -> None:
        self.attention.put(torch.addmm(self.key_value, image, self.image))


class PixelSNAIL(AutoregressiveModel):
    """PixelSNAIL: gated causal convolutions and causal attention in turn, and a mixture of logistics or a softmax.

    Arguments:
        levels: number of levels of a value, at least 2.
        image_channels: 1 for grey images; 3 for colour, with a softmax any number.
        image_size: side in pixels that `sample` draws when it is not told another; any size can be scored, but
            places repeat after 64 pixels.
        classes: number of classes to condition on, or None.
        hidden: number of features (256 in the authors' code).
        blocks: number of blocks of two gated convolution blocks and one attention layer, at least 1 (12 in the
            authors' code, of four convolution blocks each).
        dropout: probability in [0, 1) that a feature is dropped in training.
        heads: number of attention heads (1 in the authors' code), a divisor of `hidden`.
        components: number of logistics in the mixture (10 in the authors' code); None: a softmax over the levels
            instead.

    Shapes:
        images `[N, C, H, W]`, integers in `[0, levels)`; with a mixture parameters `[N, 3 * components, H, W]`,
        for colour `[N, 10 * components, H, W]`; with a softmax logits `[N, levels, H, W]`, for colour
        `[N, levels, C, H, W]`.

    References:
        Chen et al. 2018.

    Example:
        >>> import torch
        >>> model = PixelSNAIL(hidden=16, blocks=1)
        >>> x = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
        >>> model(x).shape
        torch.Size([4, 30, 28, 28])
        >>> model.log_prob(x).shape
        torch.Size([4])
    """

    recipes = (Recipe("muon", 8, 0.02), Recipe("adam", 8, 0.004))

    def __init__(
        self,
        *,
        levels: int = 256,
        image_channels: int = 1,
        image_size: int = 28,
        classes: int | None = None,
        hidden: int = 64,
        blocks: int = 2,
        dropout: float = 0.0,
        heads: int = 2,
        components: int | None = 10,
    ):
        super().__init__(
            levels=levels, image_channels=image_channels, image_size=image_size, classes=classes, dropout=dropout
        )
        at_least(1, hidden=hidden, blocks=blocks)
        channels = image_channels + 1  # and the ones, by which an edge differs from a value of zero
        self.above = DownShiftedConv2d(channels, hidden, (3, 7))
        self.beside = DownRightShiftedConv2d(channels, hidden, (1, 3))
        self.blocks = nn.ModuleList(SnailBlock(hidden, image_channels, heads, classes, dropout) for _ in range(blocks))
        self.earlier = None
        if components is not None:
            self.head = MixtureHead(hidden, components, levels, image_channels)
            return
        if image_channels > 1:  # a softmax must be told the pixel's earlier channels, a mixture knows them
            self.earlier = MaskedConv2d("A", image_channels, hidden, 1, image_channels)
        self.head = SoftmaxHead(hidden, levels, image_channels)

    def forward(self, x: Tensor, label: int | Tensor | None = None) -> Tensor:
        x, label = self.scale(x), self.labels(label, len(x))
        image = x.contiguous(memory_format=torch.channels_last)
        place = positions(*x.shape[-2:], like=x)
        x = nn.functional.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)
        h = (self.above(shift_down(x)) + self.beside(shift_right(x))).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            h = block(h, image, place, label)
        return self.head(h if self.earlier is None else h + self.earlier(image))

    def pixel_layers(self) -> list[nn.Module]:
        readers = [self.above, self.beside, self.earlier]
        return [layer for layer in (*readers, *super().pixel_layers()[-1:]) if layer is not None]

    def stepper(self, wave: Wavefront, label: Tensor | None = None) -> "SnailStep":
        return SnailStep(self, wave, label)


class SnailStep(Stepper):
    """`PixelSNAIL.forward` for one pixel, with keys and values of all earlier ones kept."""

    def __init__(self, model: PixelSNAIL, wave: Wavefront, label: Tensor | None):
        super().__init__(model, wave)
        self.pixels = Wavefront(wave.count, (1, wave.height, wave.width), WHOLE_ROW, wave.like)
        self.above, self.beside = RowStep(model.above), model.beside.stepper(self.pixels)
        place = positions(wave.height, wave.width, wave.like)[0].flatten(1).T  # [H * W, features]
        self.blocks = [SnailBlockStep(block, self.pixels, label, place) for block in model.blocks]
        self.earlier = None if model.earlier is None else model.earlier.stepper(wave)
        self.head = model.head.stepper(wave)
        self.rows = DrawnRows(wave)
        self.from_above: tuple[Tensor, ...] = ()  # what the rows above give each pixel, by column [N, hidden]
        self.features: Tensor | None = None  # of the pixel, [N, hidden]

    def predict(self, front: Front) -> Conditionals:
        if self.rows.enter(front):
            self.from_above = by_column(self.above(self.rows.above)).unbind(0)
        if front.channel == 0:
            column = self.wave.column(front)
            pixel = self.pixels.at(front.first, column)
            h = self.beside(pixel, self.rows.left(front), onto=self.from_above[column])
            for block in self.blocks:
                h = block(pixel, h)
            self.features = h
        if self.earlier is None:
            return self.head(front, self.features)
        own = self.features.split(group_sizes(self.features.shape[1], self.wave.channels), 1)[front.channel]
        return self.head(front, self.earlier(front, onto=own.clone()))

    def put(self, front: Front, levels: Tensor) -> None:
        values = self.scaled.index_select(0, levels)
        self.rows.put(front, values)
        self.head.put(front, levels)
        if self.earlier is not None:
            self.earlier.put(front, values)
        if front.channel == self.wave.channels - 1:
            for block in self.blocks:
                block.put(self.rows.pixel(front))
