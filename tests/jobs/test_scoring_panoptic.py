import pytest
from panoptic_cases import draw, listed, write_coco, write_vipseg, write_vspw

from jobs.scoring import ScoreConfig, score_files

IDS, CLASSES = (0, 3, 9), {3: 4, 9: 5}


def _write(name, root):
    sides = [{seed: listed(draw(seed, IDS, 3, noise), CLASSES) for seed in range(3)} for noise in (0.0, 0.3)]
    for side, folder in zip(sides, ("gt", "pred"), strict=True):
        if name == "vipseg":
            write_vipseg(root / folder, {f"v{n}": s for n, s in side.items()}, is_truth=folder == "gt")
        else:
            write_coco(root / folder, side, is_truth=folder == "gt", stem="panoptic_val")


@pytest.mark.parametrize("name", ["vipseg", "vspw", "coco_panoptic"])
def test_two_processes_score_like_one(name, tmp_path):
    if name == "vspw":
        videos = {f"v{seed}": (draw(seed, (1, 2)), draw(seed, (1, 2), noise=0.3)) for seed in range(3)}
        write_vspw(tmp_path / "gt", tmp_path / "pred", videos)
    else:
        _write(name, tmp_path)
    one, two = (
        score_files(ScoreConfig(benchmark=name, gt=tmp_path / "gt", pred=tmp_path / "pred", jobs=jobs)).scores
        for jobs in (1, 2)
    )
    assert two.values == pytest.approx(one.values, nan_ok=True, rel=0, abs=0)
    for ours, theirs in ((two.items, one.items), (two.classes, one.classes)):
        assert ours.keys() == theirs.keys()
        assert all(ours[key] == pytest.approx(row, nan_ok=True, rel=0, abs=0) for key, row in theirs.items())
