"""Training: `fit`, the `schedule` of its learning rate, the `History` that it returns, the `Settings` of a run."""

from .checkpoint import Settings
from .history import History
from .loop import fit, schedule

__all__ = ["History", "Settings", "fit", "schedule"]
