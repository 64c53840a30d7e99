"""Preprocess many splits one after the other: one that fails is reported and stops no other."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from ray.exceptions import RayTaskError

from jobs.errors import MissingSplitError, UserError
from jobs.preprocess import PreprocessConfig, preprocess
from jobs.session import Session
from preprocessing.errors import SourceError
from preprocessing.sources.catalog import SOURCES, require_source
from preprocessing.sources.source import require_split
from univs.schema import Manifest

logger = logging.getLogger(__name__)

ALL = "all"
"""In place of a dataset: every one whose folder is there. In place of a split: every one that is there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What became of one split."""

    dataset: str
    split: str
    state: Literal["built", "not there", "failed"]
    manifest: Manifest | None = None
    message: str = ""
    """Why it was not built."""


def is_many(job: PreprocessConfig) -> bool:
    """Whether the job stands for more than one split."""
    return ALL in (job.dataset, job.split)


def expand(job: PreprocessConfig) -> tuple[PreprocessConfig, ...]:
    """Give a job per split that may be there.

    Raises:
        UserError: no dataset has a folder.
        SourceError: the dataset or the split is unknown.
    """
    jobs = tuple(_expand(job))
    if not jobs:
        raise UserError(
            f"--source {job.source}: has no folder named like a dataset that has the split {job.split!r}; "
            f"expected at least one of {', '.join(SOURCES)}"
        )
    return jobs


def preprocess_all(jobs: Sequence[PreprocessConfig], session: Session) -> tuple[Outcome, ...]:
    """Build every split; a dataset none of whose splits is there has failed."""
    outcomes = [_try(job, session) for job in jobs]
    present = {outcome.dataset for outcome in outcomes if outcome.state != "not there"}
    return tuple(o if o.dataset in present else replace(o, state="failed") for o in outcomes)


def describe_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Give a table with a line per split."""
    head = ("dataset", "split", "state", "items", "rejects", "warnings", "frames", "objects", "expressions")
    rows = [head, *(_row(outcome) for outcome in outcomes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    reasons = [""] + [f"  {outcome.message}".rstrip() for outcome in outcomes]
    return "".join(f"{(line + reason).rstrip()}\n" for line, reason in zip(lines, reasons, strict=True))


def _expand(job: PreprocessConfig) -> Iterator[PreprocessConfig]:
    if job.dataset == ALL:
        roots = {name: job.source / name for name in SOURCES if (job.source / name).is_dir()}
    else:
        roots = {require_source(job.dataset).spec.name: job.source}
    for name, root in roots.items():
        spec = SOURCES[name].spec
        if job.dataset != ALL and job.split != ALL:
            require_split(spec, job.split)
        splits = [split for split in spec.splits if job.split in (ALL, split)]
        for split in splits:
            yield replace(job, dataset=name, split=split, source=root)


def _try(job: PreprocessConfig, session: Session) -> Outcome:
    try:
        manifest = preprocess(job, session)
    except MissingSplitError as error:
        return Outcome(dataset=job.dataset, split=job.split, state="not there", message=str(error))
    except (UserError, SourceError) as error:
        logger.error("%s %s: %s", job.dataset, job.split, error)
        return Outcome(dataset=job.dataset, split=job.split, state="failed", message=str(error))
    except RayTaskError as error:
        # A bug: its traceback is for us, and the other splits are still worth building.
        logger.exception("%s %s", job.dataset, job.split)
        cause = " ".join(repr(error.cause).split())
        return Outcome(dataset=job.dataset, split=job.split, state="failed", message=f"bug: {cause}")
    return Outcome(dataset=job.dataset, split=job.split, state="built", manifest=manifest)


def _row(outcome: Outcome) -> tuple[str, ...]:
    manifest = outcome.manifest
    if manifest is None:
        return (outcome.dataset, outcome.split, outcome.state, *[""] * 6)
    counts = (
        manifest.num_items,
        sum(manifest.rejects.values()),
        sum(manifest.warnings.values()),
        manifest.num_frames,
        manifest.num_objects,
        manifest.num_expressions,
    )
    return (outcome.dataset, outcome.split, outcome.state, *map(str, counts))
