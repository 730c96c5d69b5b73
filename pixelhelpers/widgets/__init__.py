"""Interactive pictures: `explorer`, `mask_explorer`, `reach_explorer`, `attention_explorer`."""

from .explorers import attention_explorer, explorer, mask_explorer, reach_explorer

__all__ = ["attention_explorer", "explorer", "mask_explorer", "reach_explorer"]
