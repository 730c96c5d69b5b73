"""Questions asked of any model: is it causal, how far does it see, what does it miss, whom does it copy, is it sure?"""

from ..errors import CausalityError
from .calibration import Reliability, best_temperature, posterior, reliability
from .causality import check_causal
from .neighbours import Neighbours, nearest_neighbours
from .reach import blind_spot, effective_receptive_field, reached_window, receptive_field

__all__ = [
    "CausalityError",
    "Neighbours",
    "Reliability",
    "best_temperature",
    "blind_spot",
    "check_causal",
    "effective_receptive_field",
    "nearest_neighbours",
    "posterior",
    "reached_window",
    "receptive_field",
    "reliability",
]
