"""Optimise the matrices inside the layers with Muon and everything else with AdamW.

Both are one optimiser that a Trainer can drive. A small model learns to read from a fraction of the
tokens that AdamW alone needs (docs/results.md).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal before they are applied (Jordan et al. 2024).

    torch.optim.Muon does the same one matrix at a time in bfloat16, which costs a CPU without
    bfloat16 units 4.5 times as much; here matrices of one shape go together, in their own
    precision.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], *, lr: float, momentum: float = 0.95
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step with Nesterov momentum."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape[matrix.shape].append(matrix)
            for shape, matrices in by_shape.items():
                directions = [self._direction(matrix, group["momentum"]) for matrix in matrices]
                updates = orthogonalise(torch.stack(directions))
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                for matrix, update in zip(matrices, updates, strict=True):
                    matrix.add_(update, alpha=-group["lr"] * scale)

    def _direction(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        """Return the gradient, pulled towards its running average, which takes it in first."""
        state = self.state[matrix]
        if not state:
            state["average"] = torch.zeros_like(matrix)
        average: Tensor = state["average"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(average, momentum)  # type: ignore[union-attr]


def orthogonalise(matrices: Tensor) -> Tensor:
    """Bring the singular values of each matrix of a stack near 1 by Newton-Schulz steps."""
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = _COEFFICIENTS
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


class MuonWithAdamW(torch.optim.Optimizer):
    """Two optimisers side by side.

    Their groups are one list, so that one schedule scales both learning rates.
    """

    def __init__(
        self, model: nn.Module, *, muon_learning_rate: float, learning_rate: float
    ) -> None:
        inner: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            is_token_matrix = "embed" in name or "lm_head" in name
            if parameter.dim() == 2 and not is_token_matrix:
                inner.append(parameter)
            else:
                rest.append(parameter)
        self._parts: tuple[torch.optim.Optimizer, ...] = (
            Muon(inner, lr=muon_learning_rate),
            torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
        )
        super().__init__([{"params": [*inner, *rest]}], {})
        self._share_groups()

    def _share_groups(self) -> None:
        self.param_groups = []
        for part in self._parts:
            self.param_groups += part.param_groups

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step of each."""
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return both states."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take both states up again."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
