"""Hold what tests of training share: steps of a trajectory, and settings of one plain step."""

from coa import protocol
from coa.trajectory import Outcome

STEPS = (
    *protocol.parse_policy("I need it. <begin_search> Ada's book </end_search>"),
    protocol.observation("search", "Ada wrote it.", Outcome.OK),
    *protocol.parse_policy("It says Ada.\n</think>\n\n\\boxed{Ada}"),
)
ONE_STEP = {
    "report_to": "none",
    "use_cpu": True,
    "max_steps": 1,
    "logging_steps": 1,
    "disable_tqdm": True,
    "max_grad_norm": 0.0,
    "learning_rate": 1.0,
    "optim": "sgd",
    "lr_scheduler_type": "constant",
    "save_strategy": "no",
}
"""One step of plain gradient descent with rate 1, which leaves the gradient in the weights."""
