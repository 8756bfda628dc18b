"""What several ranks compute together, beside what one process does; run by `torchrun`."""

import signal
import sys
from pathlib import Path

import numpy as np
import torch

from dnn_reco.nn.batch_norm import BatchNorm
from dnn_reco.nn.sharded_batch import dropout, part_of
from dnn_reco.training.distributed import join_ranks

NUM_EVENTS = 7


def layers(x: torch.Tensor, norm: BatchNorm) -> torch.Tensor:
    """Dropout and batch normalisation, in training."""
    torch.manual_seed(5)
    return norm.train()(dropout(x, 0.3))


def main() -> None:
    folder = Path(sys.argv[1])
    torch.manual_seed(1)
    x = torch.randn(NUM_EVENTS, 3, 4, dtype=torch.float64)
    norm = BatchNorm((4, 3), torch.float64)
    weight = torch.randn(NUM_EVENTS, 3, 4, dtype=torch.float64)
    with join_ranks("cpu") as ranks:
        part = ranks.part(NUM_EVENTS)
        own = x[part].clone().requires_grad_()
        with part_of(ranks.whole_batch(NUM_EVENTS)):
            y = layers(own, norm)
        whole = ranks.gather(y, NUM_EVENTS)
        # a loss in which all events meet
        loss = (whole * weight).sum().square() + whole.var()
        gradients = torch.autograd.grad(loss, [own, norm.scale, norm.beta])
        sums = ranks.add_up([*gradients[1:], None])
        drawn = (np.arange(3) + 10 * i + 1000 * ranks.number for i in range(2 - ranks.number))
        result = {
            "whole": whole,
            "loss": loss,
            "x": ranks.gather(gradients[0], NUM_EVENTS),
            "scale": sums[0],
            "beta": sums[1],
            "pop_mean": norm.pop_mean,
            "signal": int(
                ranks.agree_on_signal(signal.SIGTERM if ranks.number == 1 else None) or 0
            ),
            "no_signal": ranks.agree_on_signal(None),
            "told": ranks.told_by_first(0.1 + ranks.number),
            "drawn": [batch.tolist() for batch in ranks.drawn_by_first(drawn, 3)],
            "last": sums[2],
        }
        order = []
        with ranks.first_goes_first():
            marker = folder / "done"
            order.append(marker.exists())
            marker.touch()
        result["found_done"] = order[0]
        torch.save(result, folder / f"rank_{ranks.number}.pt")


if __name__ == "__main__":
    main()
