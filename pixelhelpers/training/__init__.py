"""Training: `fit`, the `schedule` of its rate, its `History` and `Settings`; `make_optimizer`, one of `OPTIMIZERS`."""

from .checkpoint import Settings
from .history import History
from .loop import fit, schedule
from .optimizers import OPTIMIZERS, make_optimizer

__all__ = ["OPTIMIZERS", "History", "Settings", "fit", "make_optimizer", "schedule"]
