"""The formats that evaluation servers take, and what is known of their limits.

Layouts as in the organizers' public instructions. A limit is stated with who states it; most servers do not
say theirs, and none is assumed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from univs.evaluation.submission_checks.archive import MB, Archive, SizeLimit, open_archive
from univs.evaluation.submission_checks.inputs import Inputs
from univs.evaluation.submission_checks.maps import (
    check_ade20k,
    check_coco_panoptic,
    check_vipseg,
    check_vspw,
)
from univs.evaluation.submission_checks.results import check_burst, check_coco_instances, check_youtube_vis
from univs.evaluation.submission_checks.vos import (
    check_davis,
    check_mose,
    check_ref_youtube_vos,
    check_viposeg,
    check_youtube_vos,
)

_CODALAB = SizeLimit(
    num_bytes=300 * MB, source="CodaLab's, by its maintainer in codalab/codalab-competitions#3110"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionFormat:
    """What one server takes."""

    name: str
    """As in the catalog of datasets."""
    layout: str
    """Files in the zip."""
    inputs: str
    """Public files of the split, relative to ``--gt``."""
    check: Callable[[Archive, Inputs], str]
    """Raises at the first thing the server would refuse; says what is there."""
    limit: SizeLimit | None = None


_VIS = SubmissionFormat(
    name="ytvis_2021",
    layout="results.json at the top",
    inputs="valid.json or instances.json of the split, or the file itself",
    check=check_youtube_vis,
    limit=_CODALAB,
)
_VOS = SubmissionFormat(
    name="ytvos_2018",
    layout="Annotations/<video>/<frame>.png",
    inputs="JPEGImages and Annotations (the given masks)",
    check=check_youtube_vos,
    limit=_CODALAB,
)

FORMATS: Mapping[str, SubmissionFormat] = MappingProxyType(
    {
        form.name: form
        for form in (
            replace(_VIS, name="ytvis_2019"),
            _VIS,
            replace(_VIS, name="ytvis_2022"),
            replace(_VIS, name="ovis"),
            _VOS,
            replace(_VOS, name="ytvos_2019"),
            replace(_VOS, name="mose", layout="<video>/<frame>.png", check=check_mose),
            SubmissionFormat(
                name="davis_2017",
                layout="<sequence>/<frame>.png",
                inputs="ImageSets/2017/test-dev.txt, JPEGImages/480p and Annotations/480p (first masks)",
                check=check_davis,
                limit=_CODALAB,
            ),
            SubmissionFormat(
                name="refytvos",
                layout="Annotations/<video>/<expression>/<frame>.png",
                inputs="meta_expressions.json and, to check sizes, JPEGImages",
                check=check_ref_youtube_vos,
                limit=_CODALAB,
            ),
            SubmissionFormat(
                name="viposeg",
                layout="Annotations/<video>/<frame>.png",
                inputs="JPEGImages and Annotations (the given masks)",
                check=check_viposeg,
            ),
            SubmissionFormat(
                name="vipseg",
                layout="pred.json and pan_pred/<video>/<frame>.png",
                inputs="test.txt or val.txt, imgs and panoVIPSeg_categories.json",
                check=check_vipseg,
            ),
            SubmissionFormat(
                name="vspw",
                layout="<video>/<frame>.png",
                inputs="test.txt or val.txt, data/<video>/origin and label_num_dic_final.json",
                check=check_vspw,
            ),
            SubmissionFormat(
                name="burst",
                layout="one JSON file",
                inputs="all_classes.json or first_frame_annotations.json of the split",
                check=check_burst,
            ),
            SubmissionFormat(
                name="coco_panoptic",
                layout="NAME.json and NAME/<image>.png",
                inputs="image_info_<split>.json or panoptic_val*.json, and panoptic_coco_categories.json",
                check=check_coco_panoptic,
                limit=_CODALAB,
            ),
            SubmissionFormat(
                name="coco_instances",
                layout="one JSON file",
                inputs="image_info_<split>.json or instances_val*.json",
                check=check_coco_instances,
                limit=_CODALAB,
            ),
            SubmissionFormat(
                name="ade20k",
                layout="<image>.png at the top, classes 1..150, 0 for none",
                inputs="testing (images), or images/validation",
                check=check_ade20k,
            ),
        )
    }
)


def check_zip(path: Path, form: SubmissionFormat, inputs: Inputs, limit: SizeLimit | None = None) -> str:
    """Check a zip before it is uploaded; say in one line what is in it.

    Args:
        path: The zip.
        form: What the server takes.
        inputs: What its organizers publish of the split.
        limit: A limit that is known better than ours.

    Raises:
        ValueError: the server would refuse it; the line says what is wrong first.
    """
    if not inputs.root.exists():
        raise ValueError(f"--gt {inputs.root}: no such file or folder")
    limit = limit or form.limit
    with open_archive(path, limit) as archive:
        counts = form.check(archive, inputs)
    size = f"{path.stat().st_size / MB:.1f} MB"
    known = (
        f" of {limit.num_bytes / MB:.0f} MB ({limit.source})"
        if limit
        else ", no limit of the server is known"
    )
    return f"{path}: fits {form.name}: {counts}; {size}{known}"
