"""What several distributed compute together, beside what one process does; run by `torchrun`."""

import signal
import sys
from pathlib import Path

import numpy as np
import torch

from dnn_reco.nn.batch_norm import BatchNorm
from dnn_reco.nn.sharded_batch import batch_shard, dropout
from dnn_reco.training.distributed import init_distributed

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
    with init_distributed("cpu") as distributed:
        part = distributed.local_slice(NUM_EVENTS)
        local_slice = x[part].clone().requires_grad_()
        with batch_shard(distributed.shard(NUM_EVENTS)):
            y = layers(local_slice, norm)
        whole = distributed.gather(y, NUM_EVENTS)
        # a loss in which all events meet
        loss = (whole * weight).sum().square() + whole.var()
        gradients = torch.autograd.grad(loss, [local_slice, norm.scale, norm.beta])
        sums = distributed.all_reduce_sum([*gradients[1:], None])
        drawn = (
            np.arange(3) + 10 * i + 1000 * distributed.rank for i in range(2 - distributed.rank)
        )
        result = {
            "whole": whole,
            "loss": loss,
            "x": distributed.gather(gradients[0], NUM_EVENTS),
            "scale": sums[0],
            "beta": sums[1],
            "pop_mean": norm.pop_mean,
            "signal": int(
                distributed.all_reduce_signal(signal.SIGTERM if distributed.rank == 1 else None)
                or 0
            ),
            "no_signal": distributed.all_reduce_signal(None),
            "told": distributed.broadcast_scalar(0.1 + distributed.rank),
            "drawn": [batch.tolist() for batch in distributed.broadcast_batches(drawn, 3)],
            "last": sums[2],
        }
        order = []
        with distributed.main_process_first():
            marker = folder / "done"
            order.append(marker.exists())
            marker.touch()
        result["found_done"] = order[0]
        torch.save(result, folder / f"rank_{distributed.rank}.pt")


if __name__ == "__main__":
    main()
