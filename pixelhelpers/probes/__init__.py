"""Questions asked of any model: is it causal, how far does it see, whom does it copy, what do its errors share?"""

from ..errors import CausalityError
from .causality import check_causal
from .neighbours import Neighbours, nearest_neighbours
from .reach import blind_spot, effective_receptive_field, reached_window, receptive_field
from .residuals import agreement

__all__ = [
    "CausalityError",
    "Neighbours",
    "agreement",
    "blind_spot",
    "check_causal",
    "effective_receptive_field",
    "nearest_neighbours",
    "reached_window",
    "receptive_field",
]
