import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import SourceError
from preprocessing.masks import decode_mask
from preprocessing.miniature import DATASETS, MiniatureConfig, build
from preprocessing.sources.catalog import SOURCES, require_source
from preprocessing.validate import validate
from preprocessing.worlds import WorldConfig

CONFIG = MiniatureConfig(
    train_images=3, val_images=2, train_videos=2, val_videos=1, world=WorldConfig(num_frames=5)
)
LABEL_FOLDERS = {
    "vipseg": lambda root, split, item: root / "panomasks" / item,
    "vspw": lambda root, split, item: root / "data" / item / "mask",
    "refytvos": lambda root, split, item: (
        root / {"train": "train", "val": "valid"}[split] / "Annotations" / item
    ),
    "davis_2017": lambda root, split, item: root / "Annotations" / "480p" / item,
}
CASES = [(name, split) for name in DATASETS for split in SOURCES[name].spec.splits]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return build(tmp_path_factory.mktemp("miniatures"), CONFIG)


def test_sources_are_named_as_their_specs_say():
    assert [source.spec.name for source in SOURCES.values()] == list(SOURCES)
    assert len(SOURCES) == 8


def test_require_source_unknown_name_lists_the_known_ones():
    expected = (
        "--dataset coco: no such dataset; expected one of coco_panoptic, sa_1b, ytvis_2021, vipseg, vspw, "
        "refytvos, davis_2017, davis_2016"
    )
    with pytest.raises(SourceError) as caught:
        require_source("coco")
    assert str(caught.value) == expected


@pytest.mark.parametrize(("name", "split"), CASES)
def test_every_miniature_item_is_listed_and_valid(roots, name, split):
    source, root = SOURCES[name], roots[name]
    items = list(source.scan(root, split))
    assert len(items) == CONFIG.num_items(source.spec.kind, split)
    assert items == list(source.scan(root, split))
    space = source.label_space(root)
    for item in items:
        record = validate(source.read(root, split, item)).record
        assert (record.dataset, record.split, record.kind) == (name, split, source.spec.kind)
        assert record.num_frames == item.num_frames
        assert record.objects
        assert record.label_space == (space.name if space else None)
        for track in record.objects:
            assert (track.category_id in space.label_of) if space else track.category_id is None
        assert bool(record.expressions) == (source.spec.task == "grounding")


@pytest.mark.parametrize(("name", "split"), [case for case in CASES if case[0] in LABEL_FOLDERS])
def test_miniature_record_paints_back_to_the_official_label_images(roots, name, split):
    source, root = SOURCES[name], roots[name]
    for item in source.scan(root, split):
        record = source.read(root, split, item).record
        labels = sorted(LABEL_FOLDERS[name](root, split, item.item_id).glob("*.png"))
        assert len(labels) == record.num_frames
        for index, path in enumerate(labels):
            painted = np.zeros((record.height, record.width), dtype=np.int64)
            for track in record.objects:
                if track.rles[index]:
                    painted[decode_mask(track.rles[index], *painted.shape)] = int(track.source_id)
            for region in record.regions:
                if region.rles[index]:
                    painted[decode_mask(region.rles[index], *painted.shape)] = {
                        "unlabelled": 0,
                        "void": 0 if name == "vipseg" else 255,
                    }[region.kind]
            with Image.open(path) as image:
                np.testing.assert_array_equal(painted, np.asarray(image))
