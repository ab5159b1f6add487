"""What stages on pairs of answers share: the loss's settings and the file of pairs."""

from typing import Any

from ml_collections import ConfigDict, FieldReference


def preference(**changes: Any) -> ConfigDict:
    """The loss of a stage with objective "preference": `vidlmm.losses.Preference`, whose names are TRL's."""
    p = ConfigDict()
    # One or several of vidlmm.losses.preference_settings.LOSS_TYPES, and a weight each; () is 1 each. Hound's
    # dpo_alpha and gamma are the weights of ("sigmoid", "sft").
    p.loss_type, p.loss_weights = ("sigmoid",), ()
    p.beta = 0.1
    p.label_smoothing = 0.0
    p.f_divergence_type, p.f_alpha_divergence_coef = "reverse_kl", 0.5
    p.discopop_tau = 0.05
    # LD-DPO: what a token beyond the shorter answer's length counts, and whether in the reference too.
    p.ld_alpha, p.ld_reference = 1.0, True
    # WPO, and the most that a pair may then weigh (0: no bound).
    p.use_weighting, p.weighting_most = False, 0.0
    p.reference_free = False
    # SimPO's margin, and AlphaPO's exponent (0: SimPO).
    p.simpo_gamma, p.alpha = 0.5, 0.0
    # Steps between two measurements of the held-out pairs, which also follow the last step; 0 for none.
    p.eval_every = 0
    p.update(changes)
    return p


def pairs(path: str | FieldReference, media_root: str | FieldReference = "", held_out: float = 0.0) -> ConfigDict:
    """The source of such a stage (vidlmm/train/pair_source.py)."""
    s = ConfigDict()
    s.kind = "pairs"
    # Rows as `vidlmm preference pairs` writes them; media_root "" is the file's own folder.
    s.path, s.media_root = path, media_root
    # A share of the videos, or a file of pairs, that is measured and not trained on.
    s.held_out, s.held_out_path = held_out, ""
    # So many pairs about one video share its places in a row, as far as they fit; a step then has more pairs than rows.
    s.pairs_a_tree = 1
    # Where the reference's log-probabilities are kept; "" is beside the pairs.
    s.reference = ""
    return s
