import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    """What two ranks saw that trained together, one on images to detect in, one on videos with objects."""
    folder = tmp_path_factory.mktemp("ranks")
    script = Path(__file__).with_name("rank.py")
    outs = [folder / f"{rank}.json" for rank in range(2)]
    # A Ray started earlier in this process keeps scripts' folders off the path; this script needs its own.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
    processes = [
        subprocess.Popen(
            [sys.executable, script, str(rank), "2", folder / "rendezvous", out], env=environment
        )
        for rank, out in enumerate(outs)
    ]
    codes = [process.wait(timeout=240) for process in processes]
    assert codes == [0, 0]
    return [json.loads(out.read_text()) for out in outs]


def test_ranks_divide_mask_losses_by_their_mean_count(ranks):
    # 12 / mean(2, 6) * mask_weight 5
    assert [rank["share"] for rank in ranks] == [15, 15]


def test_ranks_with_different_tasks_and_lengths_keep_equal_weights(ranks):
    assert ranks[0]["weights"] == ranks[1]["weights"]
    assert "class" in ranks[0]["terms"]
    assert "reid_interclip" in ranks[1]["terms"]
