"""Interactive pictures: controls above a picture that is drawn anew when one of them moves."""

from collections.abc import Callable

import ipywidgets
from matplotlib.figure import Figure

from .layers import raster_mask
from .plots import kernel, png


def explorer(picture: Callable[..., Figure], **controls: ipywidgets.ValueWidget) -> ipywidgets.VBox:
    """Shows a picture that follows its controls.

    Arguments:
        picture: makes a figure from the controls' values, given as keywords.
        controls: ipywidgets with a `value`, one per keyword.

    Returns:
        the controls in a row above an image; show it as the last line of a cell.

    Example:
        >>> from pixelhelpers import plots
        >>> box = explorer(lambda size: plots.subplots(size=(size, 2))[0], size=ipywidgets.IntSlider(3, 1, 5))
        >>> before = box.children[1].value
        >>> box.children[0].children[0].value = 4
        >>> box.children[1].value != before
        True
    """

    def drawn() -> bytes:
        return png(picture(**{name: control.value for name, control in controls.items()}))

    image = ipywidgets.Image(value=drawn(), format="png", layout={"max_width": "100%", "object_fit": "contain"})

    def redraw(change) -> None:
        image.value = drawn()

    for control in controls.values():
        control.observe(redraw, names="value")
    row = ipywidgets.HBox(list(controls.values()), layout={"flex_flow": "row wrap"})
    return ipywidgets.VBox([row, image], layout={"align_items": "flex-start"})


def mask_explorer() -> ipywidgets.VBox:
    """Lets the reader choose mask type and kernel size and shows the mask.

    Example:
        >>> mask_explorer().children[0].children[0].options
        ('A', 'B')
    """

    def picture(mask_type: str, kernel_size: int) -> Figure:
        mask = raster_mask(mask_type, 1, 1, kernel_size)[0, 0]
        return kernel(mask, f"type {mask_type}: {int(mask.sum())} of {kernel_size**2} taps are open")

    return explorer(
        picture,
        mask_type=ipywidgets.ToggleButtons(options=("A", "B"), description="mask"),
        kernel_size=ipywidgets.IntSlider(5, 1, 9, 2, description="kernel"),
    )
