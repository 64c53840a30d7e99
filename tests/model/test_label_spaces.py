import json
import os
import re
from pathlib import Path

import pytest
import timm.data
import torchvision.models.detection as detection

from univs.label_spaces import bank_rows, builtin_spaces, category_texts, clean_text, combined_texts
from univs.labels import Category, LabelSpace

ROWS = {
    "imagenet": (0, 1000), "lvis": (1000, 1203), "ytvis_2021": (2203, 40), "ovis": (2243, 25),
    "bdd_track": (2268, 8), "objects365": (2276, 365), "coco_panoptic": (2641, 133), "ade20k": (2774, 150),
    "vipseg": (2924, 124), "ytvis_2019": (3048, 40), "entityseg_instance": (3088, 206),
    "entityseg_panoptic": (3294, 644),
}  # fmt: skip
needs_samples = pytest.mark.skipif(
    "UNIVS_SAMPLES_DIR" not in os.environ, reason="needs UNIVS_SAMPLES_DIR: real samples"
)


def samples():
    return Path(os.environ["UNIVS_SAMPLES_DIR"])


def space_of(name, *names):
    categories = [Category(category_id=i, name=each, is_thing=True) for i, each in enumerate(names)]
    return LabelSpace(name=name, categories=tuple(categories))


def test_tables_follow_one_another_in_the_combined_bank():
    assert {name: bank_rows(name) for name in builtin_spaces()} == ROWS
    assert list(builtin_spaces()) == list(ROWS)
    assert len(combined_texts()) == 3938 == sum(count for _, count in ROWS.values())
    for name, (first, count) in ROWS.items():
        assert combined_texts()[first : first + count] == builtin_spaces()[name].texts


def test_label_spaces_without_a_table_share_rows():
    assert bank_rows("burst") == (1000, 1203)
    assert bank_rows("coco") == (2641, 80)
    assert bank_rows("vspw") == bank_rows("viposeg") == (2924, 124)


def test_label_space_without_rows_is_refused():
    with pytest.raises(ValueError, match="label space 'davis_2017' has no rows in the combined bank"):
        bank_rows("davis_2017")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (0, "tench tinca tinca"),
        (999, "toilet tissue toilet paper bathroom tissue"),
        (1000, "aerosol can a dispenser that holds a substance under pressure"),
        (2203, "airplane"),
        (2213, "earless seal"),
        (2267, "vehical"),
        (2268, "pedestrian"),
        (2276, "person"),
        (2640, "table tennis"),
        (2641, "person"),
        (2720, "toothbrush"),
        (2721, "banner"),
        (2773, "rug merged"),
        (2774, "wall"),
        (2923, "flag"),
        (2930, "playground slide"),
        (3047, "train"),
        (3049, "giant panda"),
        (3293, "cable car"),
        (3294, "unknown"),
        (3937, "girl"),
    ],
)
def test_rows_at_the_borders_of_tables_hold_their_texts(row, text):
    assert combined_texts()[row] == text


def test_names_are_unique_but_for_known_repetitions():
    repeated = {name: [n for n in space.labels.names if space.labels.names.count(n) > 1]
                for name, space in builtin_spaces().items()}  # fmt: skip
    found = {name: sorted(set(names)) for name, names in repeated.items() if names}
    # A crane is a bird and a machine; EntitySeg names classes of different parents alike.
    assert found == {"imagenet": ["crane"], "entityseg_panoptic": ["blanket", "cage", "hose", "pipe", "tank"]}


@pytest.mark.parametrize(
    ("name", "num_things", "first_id", "last_id"),
    [
        ("lvis", 1203, 1, 1203),
        ("coco_panoptic", 80, 1, 200),
        ("ade20k", 100, 1, 150),
        ("vipseg", 58, 0, 123),
        ("ytvis_2019", 40, 1, 40),
        ("ovis", 25, 1, 25),
        ("entityseg_panoptic", 535, 0, 643),
    ],
)
def test_ids_and_things_are_the_datasets(name, num_things, first_id, last_id):
    categories = builtin_spaces()[name].labels.categories
    assert sum(category.is_thing for category in categories) == num_things
    assert (categories[0].category_id, categories[-1].category_id) == (first_id, last_id)


def test_coco_things_come_first_with_the_ids_that_torchvision_knows():
    categories = builtin_spaces()["coco_panoptic"].labels.categories
    known = detection.MaskRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    assert all(category.is_thing == (label < 80) for label, category in enumerate(categories))
    assert [category.name for category in categories[:80]] == [known[c.category_id] for c in categories[:80]]


def test_imagenet_classes_are_those_of_timm():
    info = timm.data.ImageNetInfo("imagenet-1k")
    known = tuple(info.index_to_description(index) for index in range(1000))
    assert builtin_spaces()["imagenet"].labels.names == known


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("Giant_panda", "giant panda"),
        ("yoke_(animal_equipment)", "yoke animal equipment"),
        ("Cabinet/shelf", "cabinet shelf"),
        ("sky-other-merged", "sky other merged"),
        ("jack-o'-lantern", "jack o lantern"),
        ("the 2nd dog, running!", "the nd dog running"),
        ("wall ", "wall"),
    ],
)
def test_clean_text_leaves_lower_case_words(text, cleaned):
    assert clean_text(text) == cleaned


def test_category_texts_define_the_names_of_lvis_and_of_what_shares_its_rows():
    expected = (
        "zucchini small cucumber shaped vegetable marrow typically dark green",
        "yogurt a custard like food made from curdled milk",
        "my own thing",
    )
    for name in ("lvis", "burst"):
        assert category_texts(space_of(name, "zucchini", "yogurt", "my_own_thing")) == expected


def test_category_texts_find_the_released_name_among_official_synonyms():
    names = ("windowpane, window", "pool table, billiard table, snooker table", "a, thing, of mine")
    expected = ("window", "pool table billiard table snooker table", "a thing of mine")
    assert category_texts(space_of("ade20k", *names)) == expected


def test_names_of_the_official_ade20k_list_get_the_texts_of_the_released_bank():
    official = space_of("ade20k", "building, edifice", "swimming pool, swimming bath, natatorium")
    assert category_texts(official) == ("building", "pool")
    assert builtin_spaces()["ade20k"].texts[109] == "pool"


def test_category_texts_of_an_unknown_space_are_cleaned_names():
    assert category_texts(space_of("worlds", "red_circle", "zebra")) == ("red circle", "zebra")


@pytest.mark.parametrize("name", list(ROWS))
def test_category_texts_of_a_built_in_space_are_its_rows(name):
    space = builtin_spaces()[name]
    assert category_texts(space.labels) == space.texts


@needs_samples
def test_texts_have_the_words_of_the_originals_file():
    lines = (samples() / "categories/univs_concept_emb/combined_datasets.txt").read_text().split("\n")
    for line, text in zip(lines, combined_texts(), strict=True):
        letters = re.sub(r"[\d().,'!?\"*#:;]", "", line.replace("_", " ").lower())
        assert text.split() == re.sub(r"[-/]", " ", letters).split()


@needs_samples
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("coco_panoptic", "categories/coco_panoptic_categories_133.json"),
        ("vipseg", "vipseg_meta/panoVIPSeg_categories.json"),
        ("ade20k", "categories/ade20k_panoptic_categories_150.json"),
        ("ytvis_2019", "categories/ytvis2019_categories_40.json"),
        ("ytvis_2021", "categories/ytvis2021_categories_40.json"),
        ("ovis", "categories/ovis_categories_25.json"),
        ("lvis", "categories/lvis_v1_train_cat_info_1203.json"),
    ],
)
def test_tables_equal_the_datasets_own_files(name, file):
    rows = sorted(json.loads((samples() / file).read_text()), key=lambda row: row["id"])
    theirs = [(row["id"], row["name"].strip(), bool(row.get("isthing", 1))) for row in rows]
    # The panoptic list of ADE20K shortens one name of objectInfo150.txt.
    short = {("ade20k", 110): "pool"}
    ours = [
        (c.category_id, short.get((name, c.category_id), c.name), c.is_thing)
        for c in builtin_spaces()[name].labels.categories
    ]
    assert ours == theirs


@needs_samples
def test_vspw_numbers_the_categories_of_vipseg_from_one():
    ids = json.loads((samples() / "vipseg_meta/label_num_dic_final.json").read_text())
    names = {int(label): name for name, label in ids.items() if name != "others"}
    assert tuple(names[label] for label in range(1, 125)) == builtin_spaces()["vipseg"].labels.names


def test_equal_names_are_told_apart_by_their_ids():
    rows = ((1, "crane"), (4, "cat"), (9, "crane"))
    categories = tuple(Category(category_id=i, name=name, is_thing=True) for i, name in rows)
    assert LabelSpace(name="birds", categories=categories).distinct_names == ("crane (1)", "cat", "crane (9)")
