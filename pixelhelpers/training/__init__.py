"""Training: `fit`, the `schedule` of its learning rate, its `OPTIMIZERS`, its `History`, the `Settings` of a run."""

from .checkpoint import Settings
from .history import History
from .loop import fit, schedule
from .optimizers import OPTIMIZERS

__all__ = ["OPTIMIZERS", "History", "Settings", "fit", "schedule"]
