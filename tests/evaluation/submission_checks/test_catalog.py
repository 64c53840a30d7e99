import re
from dataclasses import replace

import pytest

from univs.evaluation.submission_checks.archive import MB, SizeLimit
from univs.evaluation.submission_checks.catalog import FORMATS, check_zip
from univs.evaluation.submission_checks.inputs import Inputs

COUNTS = {
    **dict.fromkeys(
        ("ytvis_2019", "ytvis_2021", "ytvis_2022", "ovis"), "3 videos (1 without a track), 4 tracks"
    ),
    **dict.fromkeys(("ytvos_2018", "ytvos_2019", "mose", "davis_2017", "viposeg"), "2 videos, 6 masks"),
    "refytvos": "2 videos, 4 expressions, 12 masks",
    "vipseg": "2 videos, 6 maps",
    "vspw": "2 videos, 6 maps",
    "burst": "2 sequences, 10 masks",
    "coco_panoptic": "2 images",
    "coco_instances": "2 images (0 without a mask), 4 masks",
    "ade20k": "2 maps",
}

UNLIKE = [
    (name, other)
    for name in FORMATS
    for other in ("mose", "refytvos", "ytvis_2021", "vipseg", "burst")
    if FORMATS[name].layout != FORMATS[other].layout and (name, other) != ("davis_2017", "mose")
]


@pytest.mark.parametrize("name", list(FORMATS))
def test_what_our_writers_write_fits(submit, name):
    submission = submit(name)
    line = submission.check()
    assert line.startswith(f"{submission.zip}: fits {name}: {COUNTS[name]}; 0.0 MB")
    assert "\n" not in line
    assert ("of 300 MB (CodaLab's" in line) == (FORMATS[name].limit is not None)
    assert ("no limit of the server is known" in line) == (FORMATS[name].limit is None)


@pytest.mark.parametrize(("name", "other"), UNLIKE)
def test_other_benchmarks_files_are_refused_in_one_line(submit, name, other):
    ours, theirs = submit(name), submit(other, "other")
    wrong = replace(theirs, name=name, gt=ours.gt)
    with pytest.raises(ValueError, match=f"^{re.escape(str(wrong.zip))}: ") as error:
        wrong.check()
    assert "\n" not in str(error.value)


def test_size_over_the_limit_is_refused_with_its_source(submit):
    submission = submit("mose")
    submission.check()
    size = submission.zip.stat().st_size
    limit = SizeLimit(num_bytes=size - 1, source="the page of the server")
    with pytest.raises(ValueError, match=r"MB, expected at most 0 MB \(the page of the server\)$"):
        check_zip(submission.zip, FORMATS["mose"], Inputs(root=submission.gt), limit)
    enough = SizeLimit(num_bytes=5 * MB, source="the page of the server")
    line = check_zip(submission.zip, FORMATS["mose"], Inputs(root=submission.gt), enough)
    assert line.endswith("MB of 5 MB (the page of the server)")


def test_inputs_that_are_not_there_are_told(submit, tmp_path):
    submission = submit("mose")
    submission.check()
    with pytest.raises(ValueError, match="^--gt .*nowhere: no such file or folder$"):
        check_zip(submission.zip, FORMATS["mose"], Inputs(root=tmp_path / "nowhere"))
