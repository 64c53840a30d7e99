import numpy as np
import object_cases as cases
import pytest

from jobs.scoring import ScoreConfig, score_files


@pytest.mark.parametrize("name", cases.BENCHMARKS)
def test_number_of_processes_changes_nothing(name, tmp_path):
    world = cases.draw_world(np.random.default_rng(0), names=("a", "b", "c"))
    gt, pred = cases.write_case(tmp_path, name, world)
    one, two = (
        score_files(ScoreConfig(benchmark=name, gt=gt, pred=pred, jobs=jobs)).scores for jobs in (1, 2)
    )
    np.testing.assert_array_equal(list(two.values.values()), list(one.values.values()))
    assert two.items == one.items
    assert two.classes == one.classes
