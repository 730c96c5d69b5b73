"""Interactive pictures: `explorer`, `mask_explorer`, `reach_explorer`, `attention_explorer`; the `studio`; two games,
`who_painted_it` and `guess_the_pixel`.
"""

from .explorers import attention_explorer, explorer, mask_explorer, reach_explorer
from .games import guess_the_pixel, who_painted_it
from .studio import studio

__all__ = [
    "attention_explorer",
    "explorer",
    "guess_the_pixel",
    "mask_explorer",
    "reach_explorer",
    "studio",
    "who_painted_it",
]
