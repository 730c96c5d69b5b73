"""Interactive pictures: `explorer`, `mask_explorer`, `reach_explorer`, `attention_explorer`, and the `studio`."""

from .explorers import attention_explorer, explorer, mask_explorer, reach_explorer
from .studio import studio

__all__ = ["attention_explorer", "explorer", "mask_explorer", "reach_explorer", "studio"]
