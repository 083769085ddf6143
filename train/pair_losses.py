"""Compute the losses of SFT stage 1 from log-probabilities, one value for each pair.

    contrastive  -log sigmoid(P(chosen) - P(rejected)) - alpha P(chosen)   (AutoCoA, section 3)
    decision     -log sigmoid(beta (r(d+) - r(d-))) - alpha log p(d+), r = log p - log p0
    calibrated   -(q log p + (1 - q) log(1 - p))

P is a mean of log-probabilities over a side, p the probability of all tokens of a decision
together, and p0 that of the model which the stage starts from. The decision's form is that of
DeepRAG (arXiv 2502.01142) and CSO (arXiv 2602.03412).
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

_NEAREST_TO_CERTAIN = 1e-6
"""In float32, log p of a nearly certain token may be 0, and log(1 - p) would have no end."""


def contrastive_loss(chosen: Tensor, rejected: Tensor, likelihood: Tensor, alpha: float) -> Tensor:
    """Compute the paper's loss.

    Args:
        chosen: the mean log-probability of the chosen side, as far as it is compared.
        rejected: that of the rejected side.
        likelihood: that of the whole chosen side.
        alpha: weight of the likelihood.
    """
    return -logsigmoid(chosen - rejected) - alpha * likelihood


def decision_loss(decisions: Tensor, references: Tensor, *, beta: float, alpha: float) -> Tensor:
    """Compute the preference between two decisions against a reference.

    Args:
        decisions: log p of the chosen and the rejected decision, shape (pairs, 2).
        references: the same under the model that the stage starts from.
        beta: weight of the change against the reference.
        alpha: weight of the chosen decision's own likelihood.
    """
    chosen, rejected = (decisions - references).unbind(dim=1)
    return -logsigmoid(beta * (chosen - rejected)) - alpha * decisions[:, 0]


def calibrated_loss(trigger: Tensor, target: Tensor) -> Tensor:
    """Compute the cross entropy between how likely a call is and should be.

    Args:
        trigger: log p of the trigger, at most 0.
        target: the probability q that it should have.
    """
    # The value is held below 0; the gradient goes through, so a wrong certainty is still corrected.
    excess = (trigger + _NEAREST_TO_CERTAIN).clamp(min=0).detach()
    held = trigger - excess
    log_not = torch.log(-torch.expm1(held))
    return -(target * held + (1 - target) * log_not)
