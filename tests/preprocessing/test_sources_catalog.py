import re
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import MissingFileError, SourceError
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
CASES = [
    (name, split) for name in DATASETS for split in ("train", "val") if split in SOURCES[name].spec.splits
]


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    return build(tmp_path_factory.mktemp("miniatures"), CONFIG)


def test_sources_are_named_as_their_specs_say():
    assert [source.spec.name for source in SOURCES.values()] == list(SOURCES)


def test_require_source_unknown_name_lists_the_known_ones():
    expected = f"--dataset coco: no such dataset; expected one of {', '.join(SOURCES)}"
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


@pytest.mark.parametrize("name", DATASETS)
def test_spec_says_which_label_space_and_prompts_a_dataset_yields(roots, name):
    source, root = SOURCES[name], roots[name]
    spec, space = source.spec, source.label_space(root)
    assert spec.label_space_name == (space.name if space else None)
    prompts = set()
    for split in spec.splits:
        with suppress(MissingFileError):
            for item in source.scan(root, split):
                record = source.read(root, split, item).record
                prompts |= {prompt.kind for prompt in record.prompts}
                prompts |= {"expression"} if record.expressions else set()
    # Scribbles are a download of their own, which the miniature leaves out.
    assert prompts == set(spec.prompts) - ({"scribble"} if name == "davis_2017" else set())


GROUPS = {
    r"coco:\d{12}": (
        "coco_panoptic",
        "coco_instances",
        "lvis",
        "lvis_v05",
        "refcoco",
        "refcocoplus",
        "refcocog",
    ),
    r"ytvos:\w+": ("ytvis_2019", "ytvis_2021", "ytvis_2022", "ytvos_2018", "ytvos_2019", "refytvos"),
    r"vipseg:\w+": ("vipseg", "vipseg_720p", "vspw", "viposeg"),
    r"davis:\w+": ("davis_2016", "davis_2017", "refdavis"),
    r"tao:[\w ]+/\w+": ("burst",),
    r"(sa_1b|entityseg|ade20k|ovis|mose):[\w/]+": ("sa_1b", "entityseg", "ade20k", "ovis", "mose"),
}
"""Names of groups: datasets that were made from the same pictures share them, so that leaks are found."""


@pytest.mark.parametrize(("pattern", "names"), GROUPS.items())
def test_groups_are_named_alike_where_datasets_share_pictures(roots, pattern, names):
    for name in names:
        source, root = SOURCES[name], roots[name]
        split = "val" if name == "ytvis_2022" else "train"
        groups = [source.read(root, split, item).record.group for item in source.scan(root, split)]
        assert len(set(groups)) == len(groups)
        for group in groups:
            assert re.fullmatch(pattern, group), (name, group)


def test_every_dataset_has_a_way_to_name_groups():
    assert {name for names in GROUPS.values() for name in names} == set(SOURCES)
