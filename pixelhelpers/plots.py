"""Pictures with one look: safe for colour-blind readers, readable on light and dark pages, small.

Every function returns a matplotlib `Figure`; `show` puts it into a notebook with a text for those who
cannot see it.
"""

import base64
import html
import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .grids import image_grid, visible
from .probes import Reliability
from .sampling import model_and_shape, sample

# Each is told from white by a contrast of 3 (WCAG), and these four and black from each other by 1.5: on a
# black-and-white print, too, and with any colour vision.
BLUE, ORANGE, GREEN, RED = "#003D78", "#DE7A00", "#00855F", "#9F3500"
COLOURS = (BLUE, ORANGE, GREEN, RED, "black")  # of lines, in their order
# Filled areas: seen, missed, beside the point, empty. GREY draws thin lines to compare with.
SKY, YELLOW, GREY, SILVER, PALE = "#207AB4", "#BD9700", "#808080", "#C0C0C0", "#EAEAEA"
# What a pixel sees, and what it may see.
CONTEXT = {"later, unseen": PALE, "earlier, seen": SKY, "earlier, missed": YELLOW, "leak": RED}
BEYOND = {"earlier, out of reach": SILVER}  # told apart from what is missed when `context` is told what that is
STYLE = {
    "figure.facecolor": "white",
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": mpl.cycler(color=COLOURS),
    "axes.grid": False,
    "image.cmap": "viridis",
    "image.interpolation": "nearest",
    "legend.frameon": False,
    "lines.linewidth": 2,
}


def subplots(rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (6, 3.5), **keywords):
    """Makes a figure and its axes in the look of the series, like `plt.subplots`.

    Arguments:
        rows, columns: number of axes.
        size: width and height in inches, at 100 pixels an inch.
        keywords: further arguments of `Figure.subplots`.

    Returns:
        the `Figure`, and one `Axes` or an array of them.

    Example:
        >>> figure, axes = subplots(1, 2)
        >>> len(axes)
        2
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=size)
        return figure, figure.subplots(rows, columns, **keywords)


def png(figure: Figure) -> bytes:
    """Renders a figure as the bytes of a PNG file.

    Example:
        >>> png(subplots()[0])[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def show(picture: Figure | bytes, alt: str) -> None:
    """Shows a figure, or the bytes of a GIF, in a notebook, with a text in its place where it cannot be seen.

    Arguments:
        picture: a `Figure`, or what `painting` returns.
        alt: what there is to see, in one sentence.
    """
    from IPython.display import display

    display(_with_text(picture if isinstance(picture, bytes) else png(picture), alt), raw=True)


def tag(picture: bytes, alt: str) -> str:
    """Gives a picture as a piece of HTML: there its text reaches those who cannot see it, in every reader of notebooks.

    Arguments:
        picture: the bytes of a PNG or a GIF.
        alt: what there is to see, in one sentence.

    Example:
        >>> tag(png(subplots()[0]), "a frame, and nothing in it")[:38]
        '<img alt="a frame, and nothing in it" '
    """
    kind = "gif" if picture[:3] == b"GIF" else "png"
    content = f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
    return f'<img alt="{html.escape(alt)}" style="max-width: 100%" src="{content}">'


def _with_text(picture: bytes, alt: str) -> dict[str, str]:
    """What a notebook is to show: a picture, and a text where there are no pictures at all."""
    return {"text/html": tag(picture, alt), "text/plain": f"[{alt}]"}


def images(
    pictures: Tensor,
    *,
    columns: int = 8,
    titles: Sequence[str] | None = None,
    levels: int = 256,
    side: float = 0.9,
    palette: Tensor | None = None,
) -> Figure:
    """Shows images in a grid.

    Arguments:
        pictures: integers `[N, C, H, W]`, values in `[0, levels)`, C 1 or 3.
        columns: images per row.
        titles: a text above each image; a row without any text takes no room for it.
        levels: number of levels.
        side: width of an image in inches.
        palette: the colour of each code, `[levels, 3]`, for more than 256 levels: as for `grids.visible`.

    Example:
        >>> figure = images(torch.zeros(10, 1, 28, 28, dtype=torch.uint8), columns=5)
        >>> len(figure.axes)
        10
    """
    columns = min(columns, len(pictures))
    rows = range(0, len(pictures), columns)
    titled = sum(any(titles[first : first + columns]) for first in rows) if titles else 0
    height = side * pictures.shape[-2] / pictures.shape[-1] * len(rows) + 0.25 * titled
    figure, axes = subplots(len(rows), columns, size=(side * columns, height), squeeze=False)
    for k, (axis, picture) in enumerate(zip(axes.flat, visible(pictures, levels, palette), strict=False)):
        picture = picture.movedim(0, -1)
        axis.imshow(picture.squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
        axis.axis("off")
        axis.set_title(titles[k] if titles else "", fontsize=9)
    for axis in axes.flat[len(pictures) :]:
        axis.remove()
    return figure


def kernel(mask: Tensor, title: str = "", axis=None) -> Figure:
    """Shows which taps of a kernel are open.

    Arguments:
        mask: bool `[k, k]`.
        title: text above it.
        axis: where to draw; default: a new figure.

    Example:
        >>> figure = kernel(torch.ones(3, 3, dtype=torch.bool))
    """
    size = len(mask)
    axis = axis or subplots(size=(2.4, 2.6))[1]
    axis.imshow(mask.float().numpy(), cmap=mpl.colors.ListedColormap([PALE, SKY]), vmin=0, vmax=1)
    for row in range(size):
        for column in range(size):
            axis.text(column, row, str(int(mask[row, column])), ha="center", va="center", fontsize=10)
    _grid_lines(axis, size, size)
    _mark(axis, (size // 2, size // 2))
    axis.set_title(title)
    return axis.figure


def field(values: Tensor, at: tuple[int, int] | None = None, title: str = "", axis=None) -> Figure:
    """Shows one number, or yes and no, for every pixel, and frames one of them.

    Arguments:
        values: `[H, W]`, bool or real.
        at: (row, column) of the pixel to frame.
        title: text above it.
        axis: where to draw; default: a new figure.

    Example:
        >>> figure = field(torch.rand(28, 28), at=(14, 14))
    """
    axis = axis or subplots(size=(3.6, 3.2))[1]
    axis.set(xticks=[], yticks=[], title=title)
    if values.dtype == torch.bool:
        axis.imshow(values.float().numpy(), cmap=mpl.colors.ListedColormap([PALE, SKY]), vmin=0, vmax=1)
        if max(values.shape) <= 32:
            _grid_lines(axis, *values.shape)
    else:
        axis.figure.colorbar(axis.imshow(values.numpy()), ax=axis)
    if at is not None:
        _mark(axis, at)
    return axis.figure


def context(seen: Tensor, at: tuple[int, int], title: str = "", axis=None, missed: Tensor | None = None) -> Figure:
    """Shows what one output sees of an image, told apart by what it may see in raster order.

    Arguments:
        seen: bool `[H, W]`, the pixels that the output depends on, e.g. from `receptive_field`.
        at: (row, column) of the output, which is framed.
        title: text above it.
        axis: where to draw; default: a new figure with a legend.
        missed: bool `[H, W]`, the earlier pixels to call missed, e.g. from `blind_spot`; the others that
            are not seen are out of reach. Default: all that are not seen are missed.

    Example:
        >>> seen = torch.zeros(5, 5, dtype=torch.bool)
        >>> seen[:2] = True
        >>> figure = context(seen, at=(2, 2))
    """
    height, width = seen.shape
    earlier = torch.arange(height * width).view(height, width) < at[0] * width + at[1]
    unseen = 2 if missed is None else torch.where(missed, 2, 4)
    kinds = torch.where(earlier, torch.where(seen, 1, unseen), torch.where(seen, 3, 0))
    if axis is None:
        _, axis = subplots(size=(3.6, 3.6))
        context_legend(axis.figure, columns=2, out_of_reach=missed is not None)
    colours = mpl.colors.ListedColormap([*CONTEXT.values(), *BEYOND.values()])
    axis.imshow(kinds.numpy(), cmap=colours, vmin=-0.5, vmax=4.5)
    _grid_lines(axis, height, width)
    _mark(axis, at)
    axis.set_title(title)
    return axis.figure


def turn(time: Tensor, now: int, ahead: Sequence[int] = (), title: str = "", axis=None) -> Figure:
    """Shows one turn of drawing an image: what is there, what is drawn now, and where layers work ahead of that.

    Arguments:
        time: int `[H, W]`, the turn of every pixel, e.g. `Wavefront.time`.
        now: the turn.
        ahead: by how many turns each layer is ahead, the deepest one last; a layer's number, from 0, stands in the
            pixels that it computes in this turn.
        title: text above it.
        axis: where to draw; default: a new figure with a legend.

    Example:
        >>> time = torch.arange(12) + 4 * torch.arange(5)[:, None]
        >>> figure = turn(time, now=14, ahead=[2, 1, 0])
    """
    names = ("drawn", "drawn in this turn", "later")
    colours = (SKY, ORANGE, PALE)
    if axis is None:
        figure, axis = subplots(size=(0.22 * time.shape[1] + 0.4, 0.22 * time.shape[0] + 0.9))
        patches = [
            mpl.patches.Patch(fc=colour, ec=GREY, lw=0.5, label=name)
            for colour, name in zip(colours, names, strict=True)
        ]
        figure.legend(handles=patches, loc="outside lower center", ncols=3, frameon=False)
    kinds = 1 + (time - now).sign()
    axis.imshow(kinds.numpy(), cmap=mpl.colors.ListedColormap(colours), vmin=0, vmax=2)
    for layer, lead in enumerate(ahead):
        for row, column in (time == now + lead).nonzero().tolist():
            axis.text(column, row, str(layer), ha="center", va="center", fontsize=9)
    _grid_lines(axis, *time.shape)
    axis.set_title(title)
    return axis.figure


def context_legend(figure: Figure, columns: int = 4, out_of_reach: bool = False, leak: bool = True) -> None:
    """Says below a figure what the colours of `context` mean.

    Arguments:
        figure: to write it on.
        columns: entries side by side.
        out_of_reach: whether `context` was told what is missed.
        leak: whether to name the colour of a leak, even where there is none to be seen.

    Example:
        >>> context_legend(subplots()[0])
    """
    colours = CONTEXT | (BEYOND if out_of_reach else {})
    colours = {name: colour for name, colour in colours.items() if leak or name != "leak"}
    patches = [mpl.patches.Patch(fc=colour, ec=GREY, lw=0.5, label=name) for name, colour in colours.items()]
    figure.legend(handles=patches, loc="outside lower center", ncols=columns, frameon=False)


def offsets(values: Tensor, step: int = 1, title: str = "", axis=None) -> Figure:
    """Shows a number from -1 to 1 for each offset between two pixels, such as their correlation.

    Arguments:
        values: `[2 * reach + 1, 2 * reach + 1]`, offset (0, 0) in the middle, e.g. from `probes.agreement`; NaN
            stays empty.
        step: pixels of the image from one place to the next.
        title: text above it.
        axis: where to draw; default: a new figure.

    Example:
        >>> figure = offsets(torch.linspace(-1, 1, 25).view(5, 5), step=2)
    """
    axis = axis or subplots(size=(3.2, 3.2))[1]
    axis.imshow(values.numpy(), cmap="RdBu_r", vmin=-0.6, vmax=0.6)
    for down, right in (~values.isnan()).nonzero().tolist():
        text = f"{values[down, right]:.2f}".replace("0.", ".").replace("-.00", ".00")
        axis.text(right, down, text, ha="center", va="center", fontsize=9)
    reach = len(values) // 2
    places, pixels = range(len(values)), range(-reach * step, reach * step + 1, step)
    axis.set(xticks=places, xticklabels=pixels, xlabel="pixels to the right")
    axis.set(yticks=places, yticklabels=pixels, ylabel="pixels down", title=title)
    return axis.figure


def influence(weight: Tensor, at: tuple[int, int], title: str = "", axis=None) -> Figure:
    """Shows how much each input pixel moves one output, in shares of the whole, on a logarithmic scale.

    Arguments:
        weight: `[H, W]`, at least 0, e.g. from `effective_receptive_field`; pixels of weight 0 stay blank.
        at: (row, column) of the output, which is framed.
        title: text above it.
        axis: where to draw; default: a new figure.

    Example:
        >>> figure = influence(torch.rand(28, 28), at=(14, 14))
    """
    axis = axis or subplots(size=(3.8, 3.2))[1]
    share = torch.where(weight > 0, weight / weight.sum(), torch.nan)
    axis.figure.colorbar(
        axis.imshow(share.numpy(), norm=mpl.colors.LogNorm(vmin=1e-6, vmax=1)),
        ax=axis,
        extend="min",
        label="share of the influence",
    )
    axis.set(xticks=[], yticks=[], title=title)
    axis.spines[:].set(visible=True, color=GREY)
    _mark(axis, at)
    return axis.figure


def attention(
    weights: Tensor, at: tuple[int, int], picture: Tensor, title: str = "", axis=None, levels: int = 256
) -> Figure:
    """Shows where a query pixel looks: its weights in orange over the earlier pixels of the image, later ones pale.

    The strongest weight on a pixel is full orange, 1/4 of it half as strong, 1/100 a tenth (square roots), so maps
    of different queries show shapes, not amounts. The start token has no pixel: say its weight in the title.

    Arguments:
        weights: `[H * W]` or more, the query's weights by place: place 0 the start token, place k pixel k - 1.
        at: (row, column) of the query, which is framed.
        picture: integers `[C, H, W]`, values in `[0, levels)`.
        title: text above it.
        axis: where to draw; default: a new figure.
        levels: number of levels.

    Returns:
        the `Figure`.

    Example:
        >>> figure = attention(torch.full((784,), 1 / 784), (14, 14), torch.zeros(1, 28, 28, dtype=torch.uint8))
    """
    axis = axis or subplots(size=(3.4, 3.4))[1]
    height, width = picture.shape[-2:]
    place = at[0] * width + at[1]
    share = torch.zeros(height * width)
    share[:place] = weights[1 : place + 1].float().cpu()
    strength = (share / share.max().clamp(min=1e-12)).sqrt()[:, None]
    grey = visible(picture[None], levels).cpu()[0].mean(0).flatten()[:, None]
    colours = (1 - strength) * 0.4 * grey + strength * torch.tensor(mpl.colors.to_rgb(ORANGE))
    colours[place:] = 0.75 + 0.2 * grey[place:]
    axis.imshow(colours.view(height, width, 3).numpy())
    axis.set(xticks=[], yticks=[], title=title)
    axis.spines[:].set_visible(False)
    _mark(axis, at, colour=BLUE)
    return axis.figure


def reliability(found: Reliability, title: str = "", axis=None) -> Figure:
    """Draws how often a classifier is right, over how sure it says that it is; an honest one lies on the line.

    Arguments:
        found: what `probes.reliability` counted; its 95 % intervals become bars.
        title: a text above it.
        axis: where to draw; default: a new figure.

    Example:
        >>> from pixelhelpers.probes import reliability as counted
        >>> found = counted(torch.tensor([[0.9, 0.1], [0.4, 0.6]]), torch.tensor([0, 0]), edges=(0.5, 0.75))
        >>> figure = reliability(found, "Bayes' rule")
    """
    axis = axis or subplots(size=(4.4, 3.6))[1]
    bars = torch.stack([found.right - found.low, found.high - found.right]).clamp(min=0)
    axis.errorbar(found.said.numpy(), found.right.numpy(), bars.numpy(), fmt="o", capsize=3)
    axis.plot((0, 1), (0, 1), color=GREY, lw=1)
    axis.set(title=title, xlabel="said", ylabel="right", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return axis.figure


def dots(groups: Mapping[str, Sequence[float] | Tensor], title: str = "", axis=None) -> Figure:
    """Draws every value of some groups as a dot, a row for each group, and a line at the mean.

    Arguments:
        groups: name and values of each group, one value or more, the uppermost first.
        title: a text above it.
        axis: where to draw; default: a new figure.

    Example:
        >>> figure = dots({"three seeds": [2.8, 2.9, 2.85], "one seed": [3.1]}, "bits per dimension")
    """
    axis = axis or subplots(size=(8, 0.6 + 0.6 * len(groups)))[1]
    for row, values in enumerate(groups.values()):
        values = torch.as_tensor(values, dtype=torch.float64)
        around = torch.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else torch.zeros(1)  # so that none is hidden
        axis.plot(values.numpy(), (row + around).numpy(), "o", ms=5, color=BLUE, alpha=0.6)
        axis.plot([float(values.mean())] * 2, [row - 0.35, row + 0.35], color=ORANGE)
    axis.set_yticks(range(len(groups)), list(groups))
    axis.set(title=title, ylim=(len(groups) - 0.5, -0.5))
    axis.margins(x=0.1)
    return axis.figure


def neighbours(pictures: Tensor, among: Tensor, found, *, levels: int = 256, side: float = 0.9) -> Figure:
    """Shows images above their nearest neighbours, with the distances.

    Arguments:
        pictures: integers `[N, C, H, W]`, values in `[0, levels)`, the upper row.
        among: integers `[M, C, H, W]`, where the neighbours come from.
        found: what `nearest_neighbours(pictures, among)` returned; each further neighbour is one more row.
        levels: number of levels.
        side: width of an image in inches.

    Example:
        >>> from pixelhelpers import nearest_neighbours
        >>> pictures, among = torch.zeros(3, 1, 8, 8), torch.ones(5, 1, 8, 8)
        >>> figure = neighbours(pictures, among, nearest_neighbours(pictures, among, count=2))
        >>> len(figure.axes)
        9
    """
    rows = [pictures, *(among[of_all] for of_all in found.indices.T)]
    titles = [""] * len(pictures) + [f"{distance:.0f}" for rank in found.distances.T for distance in rank]
    return images(torch.cat(rows), columns=len(pictures), titles=titles, levels=levels, side=side)


def training_curve(history: Sequence[Mapping], baselines: Mapping[str, float] | None = None) -> Figure:
    """Shows bits per dimension over epochs, with other models' scores as horizontal lines.

    Arguments:
        history: rows with `epoch`, `train` and `valid`, as `fit` returns and a card's `epochs` holds.
        baselines: name and bits per dimension of what to compare with.

    Example:
        >>> figure = training_curve([{"epoch": 1, "train": 4.0, "valid": 3.5}], {"left neighbour": 3.9})
    """
    figure, axis = subplots(size=(6.5, 3.6))
    epochs = [row["epoch"] for row in history]
    axis.plot(epochs, [row["train"] for row in history], "o-", ms=4, label="training")
    axis.plot(epochs, [row["valid"] for row in history], "s-", ms=4, label="validation")
    for name, score in (baselines or {}).items():
        axis.axhline(score, color=GREY, lw=1, ls="--")
        axis.annotate(
            f"{name} {score:.2f}", (1, score), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=9
        )
    axis.set(xlabel="epoch", ylabel="bits per dimension")
    axis.legend(loc="upper center")
    return figure


def painting(frames: Tensor, *, levels: int = 256, zoom: int = 6, seconds: float = 6.0) -> bytes:
    """Turns states of an image into an animation that repeats: the bytes of a GIF file.

    Arguments:
        frames: integers `[T, C, H, W]`, values in `[0, levels)`.
        levels: number of levels.
        zoom: screen pixels per image pixel.
        seconds: length; the last state stays for one second more.

    Example:
        >>> painting(torch.zeros(3, 1, 4, 4, dtype=torch.uint8))[:3]
        b'GIF'
    """
    pictures = [_enlarged(frame, zoom) for frame in visible(frames, levels)]
    buffer = io.BytesIO()
    durations = [max(20, round(1000 * seconds / len(pictures)))] * (len(pictures) - 1) + [1000]
    pictures[0].save(
        buffer, format="GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0, optimize=True
    )
    return buffer.getvalue()


def _enlarged(picture: Tensor, zoom: int):
    """A Pillow image of `[C, H, W]`, floats in [0, 1], with squares for pixels."""
    from torchvision.transforms.functional import to_pil_image

    picture = to_pil_image((picture * 255).round().to(torch.uint8))
    return picture.resize((picture.width * zoom, picture.height * zoom), resample=0)


def paint_live(
    model, count: int, alt: str, *, seed: int = 0, columns: int = 8, zoom: int = 3, frames: int = 28, **options
) -> Tensor:
    """Draws the very images of `sample` and shows them in a notebook while they are painted.

    Arguments:
        model: as in `sample`.
        count: number of images.
        alt: what there is to see in the end, in one sentence.
        seed: same seed, same images.
        columns: images per row of the picture.
        zoom: screen pixels per image pixel.
        frames: about how many pictures to show on the way.
        options: further arguments of `sample`, such as `temperature`.

    Returns:
        uint8 `[count, C, H, W]`.

    Example:
        >>> from pixelhelpers import PixelCNN
        >>> model = PixelCNN(hidden=8, blocks=1, image_size=5)
        >>> paint_live(model, 2, "two images of noise").shape
        torch.Size([2, 1, 5, 5])
    """
    import IPython

    net, _ = model_and_shape(model, options.get("shape"), options.get("given"), count)
    visible(torch.zeros(1, 1, 1, 1), net.levels)  # codes are refused before they are drawn
    handle = IPython.display.DisplayHandle() if IPython.get_ipython() else None  # outside a notebook nothing is shown
    shown: list[float] = []  # the shares that were drawn

    def paint(pictures: Tensor, drawn: Tensor) -> None:
        share = float(drawn.float().mean())
        if handle is not None and (share == 1 or share >= sum(shown[-1:]) + 1 / frames):
            buffer = io.BytesIO()
            _enlarged(image_grid(pictures, columns, net.levels), zoom).save(buffer, "png")
            (handle.update if shown else handle.display)(_with_text(buffer.getvalue(), alt), raw=True)
            shown.append(share)

    return sample(model, count, seed=seed, progress=False, on_step=paint, **options)


def _grid_lines(axis, rows: int, columns: int) -> None:
    """Draws the lines between pixels, as one object: a tick for each would take most of the time of a redraw."""
    lines = [((x - 0.5, -0.5), (x - 0.5, rows - 0.5)) for x in range(columns + 1)]
    lines += [((-0.5, y - 0.5), (columns - 0.5, y - 0.5)) for y in range(rows + 1)]
    grid = mpl.collections.LineCollection(lines, colors="white", linewidths=0.8, zorder=1.5)
    axis.add_collection(grid, autolim=False)
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


def _mark(axis, at: tuple[int, int], colour: str = "black") -> None:
    corner = (at[1] - 0.5, at[0] - 0.5)
    axis.add_patch(mpl.patches.Rectangle(corner, 1, 1, fill=False, ec=colour, lw=2.5, zorder=3))
