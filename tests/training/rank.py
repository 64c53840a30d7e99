"""One rank of the data-parallel test: ``python rank.py RANK WORLD_SIZE RENDEZVOUS_FILE OUT_FILE``."""

import json
import sys

import torch
import torch.distributed as dist
from conftest import build_batch, build_config, build_model
from torch.nn.parallel import DistributedDataParallel

from univs.training.criterion import weigh
from univs.training.losses import Term
from univs.training.objective import Objective
from univs.training.optimizer import build_optimizer
from univs.training.steps import train_steps


def main(rank: int, world_size: int, rendezvous: str, out: str) -> None:
    """Train two steps, each rank on its own task and length, and write down what this rank saw."""
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world_size)
    config = build_config(num_steps=2)
    term = Term(total=torch.tensor(12.0), count=torch.tensor(2.0 + 4 * rank))
    share = float(weigh({"mask": term}, config.losses)["mask"])
    objective = Objective(build_model(), config)
    optimizer = build_optimizer(objective.model, config.optimizer)
    wrapped = DistributedDataParallel(objective, find_unused_parameters=True)
    task, num_frames = ("sot", 5) if rank else ("detection", 1)
    batches = (build_batch(task, num_frames, step=step) for step in range(2))
    reports = list(train_steps(wrapped, batches, optimizer, config, torch.device("cpu")))
    weights = [float(parameter.detach().double().sum()) for parameter in objective.model.parameters()]
    with open(out, "w") as file:
        json.dump({"share": share, "weights": weights, "terms": list(reports[-1][-1].losses)}, file)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
