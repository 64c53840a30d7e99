"""Damage official files in the ways that disks, downloads and annotators do: no crash, no silent loss."""

import io
import json
import math
import os
import random
import re
import shutil
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from preprocessing.errors import FAILURES, REASONS, WARNINGS, SourceError
from preprocessing.index import begin_release, commit_release
from preprocessing.miniature import DATASETS, MARKER_NAME, MiniatureConfig, build
from preprocessing.plan import PlanParameters, make_plan, read_work_order
from preprocessing.shards import pack_shard
from preprocessing.sources.catalog import SOURCES
from preprocessing.tables import read_index, read_rejects
from preprocessing.verify import verify_release
from preprocessing.worlds import WorldConfig

NUM_CASES = 1040
MANY_CASES = 20 * NUM_CASES
CONFIG = MiniatureConfig(
    train_images=2,
    val_images=1,
    train_videos=2,
    val_videos=1,
    world=WorldConfig(height=40, width=48, num_frames=3, max_objects=3),
)
IMAGE_SUFFIXES = {".jpg", ".png"}
ODD_VALUES = (None, "", "x", "../../etc/passwd", -1, 0, 3, 10**12, 1.5, 1e300, True, [], [[]], {}, {"a": 1})
ODD_LINES = ("nobody", "../../etc", "", "a b c", "\x00", "é" * 50)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return build(tmp_path_factory.mktemp("miniatures"), CONFIG)


class Damage:
    """One file of a copy, changed for as long as the block runs."""

    def __init__(self, root, seed):
        self.random = random.Random(seed)
        files = sorted(p for p in root.rglob("*") if p.is_file() and p.name != MARKER_NAME)
        # As many annotation files as images, though there are fewer.
        kind = self.random.choice(sorted({path.suffix for path in files}))
        self.path = self.random.choice([path for path in files if path.suffix == kind])
        self.others = [path for path in files if path.suffix == kind and path != self.path]
        self.content = self.path.read_bytes()
        self.what = ""

    def __enter__(self):
        choices = [truncate, flip, flip, swap, remove, replace_by_text]
        choices += {
            ".jpg": [resize] * 3,
            ".png": [resize] * 3,
            ".json": [change_json] * 18,
            ".txt": [change_lines] * 6,
            ".tar": [change_tar] * 6,
        }.get(self.path.suffix, [])
        change = self.random.choice(choices)
        self.what = f"{change.__name__} {self.path.name}"
        changed = change(self)
        if changed is None:
            self.path.unlink()
        else:
            self.path.write_bytes(changed)
        return self

    def __exit__(self, *_):
        self.path.write_bytes(self.content)


def truncate(damage):
    return damage.content[: damage.random.randrange(len(damage.content) + 1)]


def flip(damage):
    content = bytearray(damage.content)
    for _ in range(damage.random.choice([1, 1, 4, 32])):
        content[damage.random.randrange(len(content))] ^= 1 << damage.random.randrange(8)
    return bytes(content)


def swap(damage):
    return damage.random.choice(damage.others).read_bytes() if damage.others else b""


def remove(damage):
    return None


def replace_by_text(damage):
    return damage.random.choice(
        [b"<html>404 Not Found</html>", b"\x00" * 600, b"[]", b"{}", b"null", b"\xff\xfe"]
    )


def resize(damage):
    stream = io.BytesIO()
    with Image.open(io.BytesIO(damage.content)) as image:
        width, height = image.size
        sizes = [(height, width), (width + 1, height), (width, height - 1), (1, 1), (2 * width, 2 * height)]
        modes = [image.mode, image.mode, "RGB", "L", "P", "RGBA", "I;16", "1", "CMYK"]
        changed = image.resize(damage.random.choice([*sizes, image.size]), Image.Resampling.NEAREST)
        mode = damage.random.choice(modes)
        if "I;16" in (mode, changed.mode) and mode != changed.mode:
            changed = changed.convert("L")
        changed = changed.convert(mode)
        formats = {"CMYK": "JPEG", "RGBA": "PNG", "P": "PNG", "I;16": "PNG", "1": "PNG"}
        changed.save(stream, formats.get(changed.mode, image.format))
    return stream.getvalue()


def change_lines(damage):
    lines = damage.content.decode().splitlines()
    change = damage.random.choice(["double", "drop", "odd", "shuffle", "bytes"])
    place = damage.random.randrange(len(lines))
    if change == "double":
        lines.append(lines[place])
    elif change == "drop":
        del lines[place]
    elif change == "odd":
        lines.insert(place, damage.random.choice(ODD_LINES))
    elif change == "bytes":
        return damage.content + b"\xff\xfe\xe9\n"
    else:
        damage.random.shuffle(lines)
    return "\n".join(lines).encode()


def change_tar(damage):
    stream = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(damage.content)) as tar,
        tarfile.open(fileobj=stream, mode="w") as out,
    ):
        members = tar.getmembers()
        victim = damage.random.randrange(len(members))
        for position, member in enumerate(members):
            content = tar.extractfile(member).read() if member.isfile() else b""
            change = (
                damage.random.choice(["drop", "cut", "double", "climb", "link"]) if position == victim else ""
            )
            if change == "drop":
                continue
            if change == "cut":
                content = content[: len(content) // 2]
            if change == "climb":
                member.name = f"../../{member.name}"
            if change == "link":
                member.type, member.linkname, content = tarfile.SYMTYPE, "/etc/passwd", b""
            member.size = len(content)
            for _ in range(2 if change == "double" else 1):
                out.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def change_json(damage):
    body = json.loads(damage.content)
    for _ in range(damage.random.choice([1, 1, 2])):
        places = list(walk(body))
        if not places:
            break
        # Top levels hold few values, deep ones many: each depth is as likely.
        depth = damage.random.choice(sorted({len(path) for path, _, _ in places}))
        _, parent, key = damage.random.choice([place for place in places if len(place[0]) == depth])
        change_value(damage.random, parent, key)
    return json.dumps(body).encode()


def walk(body, path=()):
    entries = body.items() if isinstance(body, dict) else enumerate(body) if isinstance(body, list) else ()
    for key, value in list(entries)[:40]:
        yield (*path, key), body, key
        yield from walk(value, (*path, key))


def change_value(generator, parent, key):
    value = parent[key]
    change = generator.choice(["drop", "odd", "odd", "double", "shuffle", "scale", "rename", "swap", "empty"])
    if change == "drop":
        del parent[key]
    elif change == "double" and isinstance(parent, list):
        parent.insert(generator.randrange(len(parent) + 1), value)
    elif change == "shuffle" and isinstance(value, list):
        generator.shuffle(value)
    elif change == "scale" and isinstance(value, int | float):
        parent[key] = generator.choice([-value, value + 1, value * 1000, float(value), str(value)])
    elif change == "rename" and isinstance(parent, dict):
        parent[f"{key}_"] = parent.pop(key)
    elif change == "swap" and isinstance(value, dict) and {"height", "width"} <= value.keys():
        value["height"], value["width"] = value["width"], value["height"]
    elif change == "empty" and isinstance(value, list | dict | str):
        parent[key] = type(value)()
    else:
        parent[key] = generator.choice(ODD_VALUES)


def preprocess(name, root, split, release):
    """Build a release as the job does, without Ray; give the ids listed, those packed, and the rejects."""
    source = SOURCES[name]
    items = list(source.scan(root, split))
    space = source.label_space(root)
    plan = make_plan(name, split, items, PlanParameters(target_frames_per_shard=4), space)
    for path in begin_release(release, plan):
        pack_shard(source, root, split, read_work_order(path), release)
    manifest = commit_release(release, plan, source.spec, space)
    assert manifest.num_items == len(items)
    verify_release(release, num_samples=2)
    rejects = read_rejects(release)
    return {item.item_id for item in items}, {row.item_id for row in read_index(release)}, rejects


def check_case(name, root, split, seed, release):
    """Damage one file, build, and give what came of it."""
    complaint = ""
    with Damage(root, seed) as damage:
        try:
            listed, packed, rejects = preprocess(name, root, split, release)
        except SourceError as error:
            complaint = str(error)
        except Exception as error:
            raise AssertionError(f"case {seed}: {damage.what} of {damage.path}: {error!r}") from error
        finally:
            shutil.rmtree(release, ignore_errors=True)
    is_in_an_image = damage.path.suffix in IMAGE_SUFFIXES
    if complaint:
        # One line for the user, that names what to look at.
        assert "\n" not in complaint, (seed, damage.what)
        assert complaint.startswith(("--source", f"{name} {split}", *FAILURES)), (
            seed,
            damage.what,
            complaint,
        )
        assert not is_in_an_image or damage.what.startswith("remove"), (seed, damage.what, complaint)
        return "source"
    assert packed | {reject.item_id for reject in rejects} == listed, (seed, damage.what)
    assert len(packed) + len(rejects) == len(listed), (seed, damage.what)
    for reject in rejects:
        assert reject.code in REASONS, (seed, damage.what)
        assert reject.message.strip(), (seed, damage.what)
        assert "\n" not in reject.message, (seed, damage.what, reject.message)
        # Neither addresses nor folders: equal sources give equal tables on any machine.
        assert not re.search(r"0x[0-9a-f]{6}", reject.message), (seed, damage.what, reject.message)
        assert str(root) not in f"{reject.message} {reject.file}", (seed, damage.what, reject)
    if is_in_an_image:
        # An image is of one item, whatever happens to it.
        assert len(rejects) <= 1, (seed, damage.what)
    return "rejects" if rejects else "kept"


def run_cases(name, root, num_cases, release):
    outcomes = Counter()
    splits = [split for split in SOURCES[name].spec.splits if is_there(name, root, split)]
    for case in range(num_cases):
        split = splits[case % len(splits)] if case % 3 == 0 else splits[0]
        outcomes[check_case(name, root, split, f"{name}-{case}", release)] += 1
    return outcomes


def is_there(name, root, split):
    try:
        return any(True for _ in SOURCES[name].scan(root, split))
    except SourceError:
        return False


def test_every_dataset_is_fuzzed_and_there_are_enough_cases():
    assert set(DATASETS) == set(SOURCES)
    assert math.ceil(NUM_CASES / len(DATASETS)) * len(DATASETS) >= 1000
    assert not set(REASONS) & set(WARNINGS)


@pytest.mark.parametrize("name", DATASETS)
def test_damaged_official_file_is_rejected_or_refused_but_never_lost(pristine, name, tmp_path):
    root = tmp_path / name
    shutil.copytree(pristine[name], root)
    outcomes = run_cases(name, root, math.ceil(NUM_CASES / len(DATASETS)), tmp_path / "release")
    # The damage is real: much of it is noticed, and much of it leaves some items usable.
    assert outcomes["source"] + outcomes["rejects"] >= outcomes.total() / 5, outcomes
    assert outcomes["kept"] + outcomes["rejects"] >= outcomes.total() / 5, outcomes


@pytest.mark.skipif("UNIVS_SAMPLES_DIR" not in os.environ, reason="needs UNIVS_SAMPLES_DIR: real samples")
def test_damaged_real_coco_file_is_rejected_or_refused_but_never_lost(tmp_path):
    samples, root = Path(os.environ["UNIVS_SAMPLES_DIR"]) / "coco", tmp_path / "coco_panoptic"
    for part in ("val2017", "annotations/panoptic_val2017"):
        shutil.copytree(samples / part, root / part)
    shutil.copy(samples / "annotations/panoptic_val2017.json", root / "annotations")
    for path in root.rglob("*"):
        path.chmod(0o755)
    outcomes = run_cases("coco_panoptic", root, 60, tmp_path / "release")
    assert outcomes["source"] + outcomes["rejects"] >= 20, outcomes


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", DATASETS)
def test_damaged_official_file_many_times(pristine, name, tmp_path):
    root = tmp_path / name
    shutil.copytree(pristine[name], root)
    assert run_cases(name, root, math.ceil(MANY_CASES / len(DATASETS)), tmp_path / "release")
