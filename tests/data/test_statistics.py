import numpy as np

from univs.data.release import Release
from univs.data.statistics import mask_areas, measure_release, spread
from univs.labels import Category, LabelSpace
from univs.schema import Expression

SPACE = LabelSpace(
    name="two",
    categories=(
        Category(category_id=3, name="cat", is_thing=True),
        Category(category_id=8, name="sky", is_thing=False),
    ),
)


def test_measure_release_counts_what_the_records_hold(maker):
    square = maker.rectangle(2, 3, 8, 6)
    cat = maker.track(1, [square, "A", square, "U"], category_id=3)
    videos = [
        maker.record(
            4,
            [cat],
            item_id=name,
            label_space="two",
            expressions=(Expression(expression_id="0", text="the left cat", object_ids=(1,)),),
        )
        for name in ("a", "b")
    ]
    empty = maker.record(2, [], item_id="c", label_space="two")
    path = maker.pack([*videos, empty], space=SPACE, max_frames_per_chunk=2)
    found = measure_release(Release.open(path))
    assert sorted(found.frames_per_item) == [2, 4, 4]
    assert sorted(found.objects_per_item) == [0, 1, 1]
    assert found.sizes == {"32 x 24": 5}
    # Both chunks of a video list its cat.
    assert found.categories == {"cat": 4, "sky": 0}
    assert found.states == {"V": 4, "A": 2, "U": 2}
    assert found.mask_areas == (48 / (24 * 32),) * 4
    assert set(found.expression_words) == {3}
    assert found.num_records == 5
    summary = found.summary()
    assert (summary["frames_per_item/min"], summary["frames_per_item/max"]) == (2, 4)
    assert summary["mask_area/median"] == 48 / (24 * 32)


def test_measure_release_reads_no_more_records_than_told(maker):
    records = [maker.record(1, [], item_id=f"i{n}") for n in range(7)]
    found = measure_release(Release.open(maker.pack(records)), max_records=3)
    assert (found.num_records, len(found.frames_per_item)) == (3, 7)
    assert "mask_area/min" not in found.summary()


def test_mask_areas_equal_the_pixels_counted(maker):
    mask = np.random.default_rng(0).random((24, 32)) > 0.7
    record = maker.record(1, [maker.track(1, [mask])])
    assert mask_areas(record) == [mask.mean()]


def test_spread_takes_both_ends_and_nothing_twice():
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(3, 8) == [0, 1, 2]
    assert spread(5, 1) == [0]
