"""Controls above a picture that is drawn anew: the `Explorer`, and `explorer`, which makes one of any picture;
`mask_explorer`, `reach_explorer`, `attention_explorer`.
"""

from collections.abc import Callable, Sequence

import ipywidgets
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..layers import raster_mask
from ..plots import attention, context, context_legend, kernel, png, subplots, tag
from ..probes import reached_window
from .live import Names, live


class Explorer(ipywidgets.VBox):
    """Controls in a row, above a picture with a text for those who cannot see it.

    Where widgets do not run, such as in a notebook on GitHub, the picture is shown as it was.

    Arguments:
        picture: makes a figure from the controls' values, given as keywords.
        alt: what there is to see, whatever the controls say; their values are added to it.
        controls: ipywidgets with a `value` and a `description`, by keyword.
    """

    def __init__(self, picture: Callable[..., Figure], alt: str, controls: dict[str, ipywidgets.ValueWidget]):
        self.picture, self.alt, self.controls = picture, alt, controls
        row = ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"})
        shown = ipywidgets.HTML(layout={"max_width": "100%"})
        super().__init__([row, shown, live(Names())], layout={"align_items": "flex-start"})
        self.redraw()
        for control in controls.values():
            control.observe(self.redraw, names="value")

    def redraw(self, change: dict | None = None) -> None:
        """Draws the picture for what the controls say now."""
        figure = self.picture(**{name: control.value for name, control in self.controls.items()})
        values = (f"{control.description} {control.value}" for control in self.controls.values())
        self.children[1].value = tag(png(figure), f"{self.alt}; {', '.join(values)}")

    def _repr_mimebundle_(self, **keywords):
        bundle = super()._repr_mimebundle_(**keywords)
        return bundle | {"text/html": self.children[1].value} if isinstance(bundle, dict) else bundle


def explorer(picture: Callable[..., Figure], alt: str = "a picture", **controls: ipywidgets.ValueWidget) -> Explorer:
    """Shows a picture that follows its controls.

    Arguments:
        picture: makes a figure from the controls' values, given as keywords.
        alt: what there is to see, whatever the controls say; their values are added to it.
        controls: ipywidgets with a `value`, one per keyword.

    Returns:
        the controls in a row above a picture; show it as the last line of a cell.

    Example:
        >>> from pixelhelpers import plots
        >>> size = ipywidgets.IntSlider(3, 1, 5, description="size")
        >>> box = explorer(lambda size: plots.subplots(size=(size, 2))[0], "an empty frame", size=size)
        >>> box.children[1].value[:33]
        '<img alt="an empty frame; size 3"'
        >>> size.value = 4
        >>> box.children[1].value[:33]
        '<img alt="an empty frame; size 4"'
    """
    return Explorer(picture, alt, controls)


def mask_explorer() -> Explorer:
    """Lets the reader choose masks, kernel size and depth, and shows what one output pixel sees.

    Example:
        >>> first, later, kernel_size, depth = mask_explorer().children[0].children
        >>> first.options, kernel_size.value
        (('A', 'B'), 3)
    """
    types = {"options": ("A", "B"), "style": {"button_width": "3em"}}
    return explorer(
        _stack,
        "two kernels, and which earlier pixels a stack of them sees",
        first=ipywidgets.ToggleButtons(value="A", description="first layer", **types),
        later=ipywidgets.ToggleButtons(value="B", description="later layers", **types),
        kernel_size=ipywidgets.IntSlider(3, 3, 7, 2, description="kernel"),
        depth=ipywidgets.IntSlider(2, 1, 8, description="layers"),
    )


def reach_explorer() -> Explorer:
    """Lets the reader choose kernels and depth, and counts what the middle pixel of an image sees and misses.

    Example:
        >>> stem, kernel_size, layers = reach_explorer().children[0].children
        >>> stem.value, kernel_size.value, layers.value
        (7, 3, 6)
    """
    sides = {"min": 3, "max": 9, "step": 2}
    return explorer(
        _reach,
        "an image of 28 by 28 pixels: which of the earlier ones its middle pixel sees, misses, or cannot reach",
        stem=ipywidgets.IntSlider(7, **sides, description="first kernel"),
        kernel_size=ipywidgets.IntSlider(3, **sides, description="later ones"),
        layers=ipywidgets.IntSlider(6, 1, 16, description="layers"),
    )


def attention_explorer(pictures: Tensor, maps: Sequence[Tensor], levels: int = 256) -> Explorer:
    """Lets the reader choose an image and a query pixel, and shows where every head of every block looks.

    Arguments:
        pictures: integers `[N, C, H, W]`, values in `[0, levels)`.
        maps: for each block `[N, heads, H * W, H * W]`, what `CausalAttention.weights` gives.
        levels: number of levels.

    Example:
        >>> pictures = torch.zeros(2, 1, 6, 6, dtype=torch.uint8)
        >>> box = attention_explorer(pictures, [torch.full((2, 3, 36, 36), 1 / 36)])
        >>> [control.description for control in box.children[0].children]
        ['image', 'row', 'column']
    """
    height, width = pictures.shape[-2:]
    maps = [block.half() for block in maps]  # they live as long as the explorer: half as large, and no picture differs

    def picture(image: int, row: int, column: int) -> Figure:
        heads = [(block, head) for block in range(len(maps)) for head in range(maps[block].shape[1])]
        figure, axes = subplots(1, len(heads), size=(2.1 * len(heads), 2.8), squeeze=False)
        for axis, (block, head) in zip(axes.flat, heads, strict=True):
            weights = maps[block][image, head, row * width + column]
            title = f"block {block + 1}, head {head + 1}\nstart token: {float(weights[0]):.0%}"
            attention(weights, (row, column), pictures[image], title, axis, levels)
        return figure

    return explorer(
        picture,
        "an image, and in orange where each head of each block looks from one of its pixels",
        image=ipywidgets.IntSlider(0, 0, len(pictures) - 1, description="image"),
        row=ipywidgets.IntSlider(height // 2, 0, height - 1, description="row"),
        column=ipywidgets.IntSlider(width // 2, 0, width - 1, description="column"),
    )


def _reach(stem: int, kernel_size: int, layers: int) -> Figure:
    """Draws what the middle pixel sees through a stack of masked convolutions, with its blind spot."""
    side, at = 28, (14, 14)
    masks = [raster_mask("A", 1, 1, stem)[0, 0]]
    masks += [raster_mask("B", 1, 1, kernel_size)[0, 0]] * (layers - 1)
    seen = _seen(masks, at, (side, side))
    earlier = torch.arange(side * side).view(side, side) < at[0] * side + at[1]
    missed = reached_window(seen, at) & earlier & ~seen
    figure, axis = subplots(size=(4.6, 5))
    taps = sum(int(mask.sum()) for mask in masks)
    text = f"{layers} layer{'s' * (layers > 1)}, {taps} open taps: {int(seen.sum())} of {int(earlier.sum())} seen,\n"
    context(seen, at, text + f"{int(missed.sum())} more within reach and missed", axis, missed)
    context_legend(figure, columns=2, out_of_reach=True, leak=False)
    return figure


def _stack(first: str, later: str, kernel_size: int, depth: int) -> Figure:
    """Draws both kernels of a stack of masked convolutions and what its output sees."""
    side, at = 15, (9, 7)
    masks = [raster_mask(kind, 1, 1, kernel_size)[0, 0] for kind in (first, later)]
    seen = _seen([masks[0]] + [masks[1]] * (depth - 1), at, (side, side))
    earlier = at[0] * side + at[1]
    figure, axes = subplots(1, 3, size=(8.4, 3.8), width_ratios=(1, 1, 1.5))
    for axis, kind, mask, name in zip(axes, (first, later), masks, ("first", "later"), strict=False):
        kernel(mask, f"{name}: type {kind}, {int(mask.sum())} of {mask.numel()} open", axis)
    known = int(seen.flatten()[:earlier].sum())
    text = f"{known} of {earlier} earlier pixels" + (" AND ITSELF" if seen[at] else "")
    context(seen, at, f"{'1 layer sees' if depth == 1 else f'{depth} layers see'}\n{text}", axes[2])
    context_legend(figure)
    return figure


def _seen(masks: list[Tensor], at: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """Walks from an output pixel back to the image, through the open taps `[k, k]` of each layer."""
    seen = torch.zeros(1, 1, *shape)
    seen[..., at[0], at[1]] = 1
    for mask in reversed(masks):
        seen = (
            torch.nn.functional.conv_transpose2d(seen, mask[None, None].float(), padding=len(mask) // 2) > 0
        ).float()
    return seen[0, 0].bool()
