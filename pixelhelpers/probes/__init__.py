"""Questions asked of any model: is it causal, what does it see, where does it look, whom does it copy, is it sure?"""

from ..errors import CausalityError
from .attending import LargestTensor, attention_maps, weight_by_offset
from .calibration import Reliability, best_temperature, posterior, reliability
from .causality import check_causal
from .neighbours import Neighbours, nearest_neighbours
from .reach import blind_spot, effective_receptive_field, reached_window, receptive_field
from .residuals import agreement

__all__ = [
    "CausalityError",
    "LargestTensor",
    "Neighbours",
    "Reliability",
    "agreement",
    "attention_maps",
    "best_temperature",
    "blind_spot",
    "check_causal",
    "effective_receptive_field",
    "nearest_neighbours",
    "posterior",
    "reached_window",
    "receptive_field",
    "reliability",
    "weight_by_offset",
]
