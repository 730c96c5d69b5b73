"""What happened in each epoch of a training: `History`."""

from ..tables import Table


class History(Table):
    """What happened in each epoch: a list of rows, shown as a table.

    Each row is a dict with `epoch`, `step` (optimiser steps so far), `train` and `valid` (bits per
    dimension; `train` is the mean while learning, `valid` is scored with the averaged weights), `lr` and
    `seconds` (of training so far).

    Example:
        >>> History([{"epoch": 1, "step": 40, "train": 4.2, "valid": 3.91, "lr": 1e-3, "seconds": 7.9}])
        epoch   step   train   valid        lr   seconds
            1     40   4.200   3.910   1.0e-03         8
    """

    COLUMNS = ("epoch", "step", "train", "valid", "lr", "seconds")
    FORMATS = {"train": ".3f", "valid": ".3f", "lr": ".1e", "seconds": ".0f"}  # noqa: RUF012 (read only)
    interrupted = False  # whether Ctrl-C ended the run
