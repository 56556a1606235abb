"""AdaGrad with one scale for each row of a table."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer

from ssl_nlp.errors import UserError


class RowAdagrad(Optimizer):
    """Divides the gradient of a row by the root of the sum of its mean squares so far (arXiv:2104.05158).

    AdaGrad (Duchi, Hazan and Singer 2011) with one number of state for a row in place of one for each weight, so that a
    step reads and writes little more than the rows that change: those of a sparse gradient, or all of a dense one.

    Args:
        params: tables, whose first dimension counts the rows.
        lr: learning rate: about how far a weight moves in the first step.
        weight_decay: only 0, because a row that a step does not read could not decay.
        eps: term in the denominator.
    """

    def __init__(self, params: Iterable[Any], lr: float, weight_decay: float = 0.0, eps: float = 1e-12) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "eps": eps})
        if any(group["weight_decay"] for group in self.param_groups):
            raise UserError("optimization: RowAdagrad has no weight decay: set weight_decay to 0")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state. The squares stay float32, where torch would convert them to the type of the tables."""
        super().load_state_dict(state_dict)
        tables = [table for group in self.param_groups for table in group["params"]]
        numbers = [number for group in state_dict["param_groups"] for number in group["params"]]
        for table, number in zip(tables, numbers, strict=True):
            if number in state_dict["state"]:
                self.state[table]["squares"] = state_dict["state"][number]["squares"].to(table.device)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient; returns what `closure` returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is None:
                    continue
                rows = table.grad.to_sparse(1).coalesce()
                width = table.numel() // max(len(table), 1)
                places, values = rows.indices()[0], rows.values().view(rows.indices().shape[1], width)
                state = self.state[table]
                if not state:
                    state["squares"] = torch.zeros(len(table), dtype=torch.float32, device=table.device)
                squares = state["squares"].index_add_(0, places, values.float().square().mean(dim=1))[places]
                steps = values * (-group["lr"] / (squares.sqrt() + group["eps"])).to(values.dtype)[:, None]
                table.view(len(table), width).index_add_(0, places, steps)
        return loss
