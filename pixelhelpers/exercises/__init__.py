"""Checks of a learner's answers: each says what is wrong, not only that it is.

One module per notebook. A check is called with the answer and prints one verdict; it never stops the
notebook. An answer that is still empty (it returns None or `...`) gets a friendly line.
"""

from .fast_sampling import check_cache, check_iterate, check_little_work, check_turns_needed
from .five_models import check_difference, check_own_model, check_unbeaten
from .gated_pixelcnn import check_posterior, check_rows_above, check_temperature_of_doubt
from .masked_convolution import (
    check_an_order,
    check_centre_tap,
    check_leaking_masks,
    check_leaks,
    check_masked_convolution,
    make_suspects,
)
from .masked_self_attention import check_allowed_places, check_attention_step, check_sparse_mask, check_stored_bytes
from .mixture_of_logistics import check_level_of, check_logistic_log_prob, check_own_bump
from .overfitting import check_diagnosis, check_early_stopping, check_shifted_distance
from .parallel_generation import check_own_order, check_price, check_ranks
from .plusplus import check_down_and_up, check_heard, check_moved_means
from .residual_blocks import check_blocks_needed, check_far_sight, check_network, check_residual_block
from .sampling import check_completion, check_fill, check_paint, check_temperature, check_top_p
from .shifted_convolution import check_seen_offsets, check_starting_bound, check_without_mask
from .short_sighted import check_holes, check_missed, check_no_hole
from .start_here import check_dearer_than_noise, check_times_as_probable, check_times_asked
from .training import check_baseline, check_bits_per_dim, check_to_levels, check_train
from .verdict import Mistake, Unsolved, ask, exercise

__all__ = [
    "Mistake",
    "Unsolved",
    "ask",
    "check_allowed_places",
    "check_an_order",
    "check_attention_step",
    "check_baseline",
    "check_bits_per_dim",
    "check_blocks_needed",
    "check_cache",
    "check_centre_tap",
    "check_completion",
    "check_dearer_than_noise",
    "check_diagnosis",
    "check_difference",
    "check_down_and_up",
    "check_early_stopping",
    "check_far_sight",
    "check_fill",
    "check_heard",
    "check_holes",
    "check_iterate",
    "check_leaking_masks",
    "check_leaks",
    "check_level_of",
    "check_little_work",
    "check_logistic_log_prob",
    "check_masked_convolution",
    "check_missed",
    "check_moved_means",
    "check_network",
    "check_no_hole",
    "check_own_bump",
    "check_own_model",
    "check_own_order",
    "check_paint",
    "check_posterior",
    "check_price",
    "check_ranks",
    "check_residual_block",
    "check_rows_above",
    "check_seen_offsets",
    "check_shifted_distance",
    "check_sparse_mask",
    "check_starting_bound",
    "check_stored_bytes",
    "check_temperature",
    "check_temperature_of_doubt",
    "check_times_as_probable",
    "check_times_asked",
    "check_to_levels",
    "check_top_p",
    "check_train",
    "check_turns_needed",
    "check_unbeaten",
    "check_without_mask",
    "exercise",
    "make_suspects",
]
