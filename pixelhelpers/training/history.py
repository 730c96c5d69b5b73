"""What happened in each epoch of a training: `History`."""

from collections.abc import Iterable

from ..tables import Table


class History(Table):
    """What happened in each epoch: a list of rows, shown as a table.

    Each row is a dict with `epoch`, `step` (optimiser steps so far), `train` and `valid` (bits per
    dimension; `train` is the mean while learning, `valid` is scored with the averaged weights), `lr` and
    `seconds` (of training so far).

    Arguments:
        rows: the rows.
        recipe: how the weights were updated: optimiser, images a step, highest rate.

    Example:
        >>> History([{"epoch": 1, "step": 40, "train": 4.2, "valid": 3.91, "lr": 1e-3, "seconds": 7.9}])
        epoch   step   train   valid        lr   seconds
            1     40   4.200   3.910   1.0e-03         8
    """

    COLUMNS = ("epoch", "step", "train", "valid", "lr", "seconds")
    FORMATS = {"epoch": "g", "train": ".3f", "valid": ".3f", "lr": ".1e", "seconds": ".0f"}  # noqa: RUF012 (read only)
    interrupted = False  # whether Ctrl-C ended the run

    def __init__(self, rows: Iterable[dict] = (), recipe: str = ""):
        super().__init__(rows)
        self.recipe = recipe
