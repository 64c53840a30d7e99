"""Turn datasets, in their official layouts, into releases of WebDataset shards.

    python pipelines/preprocess.py --dataset vipseg --split train --source VIPSeg --out releases
    python pipelines/preprocess.py --dataset all --source datasets --out releases
    ray job submit --working-dir . -- python pipelines/preprocess.py --dataset ...   # absolute paths

Run the same command again after any failure: finished shards are kept.

    python pipelines/preprocess.py --list                      # what is read, what it needs and yields
    python pipelines/preprocess.py --verify RELEASE            # is it still what was written?
    python pipelines/preprocess.py --leaks RELEASE RELEASE ... # pictures that train and other splits share
    python pipelines/preprocess.py --release RELEASE           # draw a contact sheet of it, with statistics
"""

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.artifacts import PREVIEW_NAME
from jobs.preprocess import PreprocessConfig, check_job, describe, outline_release, preprocess
from jobs.preprocess_all import describe_outcomes, expand, is_many, preprocess_all
from jobs.session import ClusterConfig, ray_session
from pipelines.cli import parse_flags, run_main, take_switch
from preprocessing.leaks import describe_leaks, find_leaks, write_leaks
from preprocessing.sources.catalog import SOURCES
from preprocessing.sources.source import ExpectedCounts, SourceSpec
from preprocessing.verify import verify_release
from univs.schema import Manifest

logger = logging.getLogger(__name__)

_PLURALS = {
    "point": "points",
    "box": "boxes",
    "scribble": "scribbles",
    "mask": "masks to start from",
    "expression": "expressions",
}
DESCRIPTION = f"{__doc__}\n--dry-run: scan, show the plan and stop."


@dataclass(frozen=True, kw_only=True, slots=True)
class VerifyConfig:
    """A release to check against itself."""

    verify: Path
    """Folder of the release."""
    num_samples: int = 100
    """Samples to decode; the bytes of all shards are hashed in any case."""
    seed: int = 0
    """Chooses the samples."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaksConfig:
    """Releases to compare: those of a train split with all others."""

    leaks: tuple[Path, ...]
    """Folders of the releases."""
    report: Path | None = None
    """Parquet file to write, a row per shared group."""


def main() -> None:
    """Parse flags, then list, verify, compare, plan, or build."""
    arguments = sys.argv[1:]
    if take_switch(arguments, "--list"):
        sys.stdout.write(list_datasets())
        return
    given = {argument.partition("=")[0] for argument in arguments}
    for flag, run in _MODES.items():
        if flag in given:
            run(arguments)
            return
    _build(arguments)


def list_datasets() -> str:
    """Show what each dataset needs, how much of it there is, and what it yields."""
    return "".join(_describe_spec(source.spec) for source in SOURCES.values())


def report(job: PreprocessConfig, manifest: Manifest) -> str:
    """Show counts, rejects, warnings and shards of a finished release, and where it is."""
    shards = "".join(f"{entry.sha256}  {entry.name}\n" for entry in manifest.shards)
    return (
        f"items {manifest.num_items}, samples {manifest.num_samples}, frames {manifest.num_frames}, "
        f"objects {manifest.num_objects}, expressions {manifest.num_expressions}\n"
        f"rejects {_describe_codes(manifest.rejects)}\nwarnings {_describe_codes(manifest.warnings)}\n"
        f"{shards}release {job.release_dir}\n"
    )


def _build(arguments: list[str]) -> None:
    dry_run = take_switch(arguments, "--dry-run")
    job = parse_flags(PreprocessConfig, DESCRIPTION, arguments)
    if is_many(job):
        _build_many(job, dry_run)
        return
    if dry_run:
        sys.stdout.write(_describe_plan(job))
        return
    cluster = ClusterConfig.from_environment()
    check_job(job, sees_source=not cluster.ray_address)
    with ray_session(cluster) as session:
        manifest = preprocess(job, session)
    sys.stdout.write(report(job, manifest))


def _build_many(job: PreprocessConfig, dry_run: bool) -> None:
    jobs = expand(job)
    if dry_run:
        sys.stdout.write("".join(f"{one.dataset} {one.split} from {one.source}\n" for one in jobs))
        return
    with ray_session(ClusterConfig.from_environment()) as session:
        outcomes = preprocess_all(jobs, session)
    sys.stdout.write(describe_outcomes(outcomes))
    if any(outcome.state == "failed" for outcome in outcomes):
        sys.exit(1)


def _verify(arguments: list[str]) -> None:
    config = parse_flags(VerifyConfig, DESCRIPTION, arguments)
    manifest = verify_release(config.verify, num_samples=config.num_samples, seed=config.seed)
    num_decoded = min(config.num_samples, manifest.num_samples)
    sys.stdout.write(
        f"{config.verify}: {len(manifest.shards)} shards, {manifest.num_samples} samples, "
        f"{num_decoded} of them decoded: as written\n"
    )


def _compare(arguments: list[str]) -> None:
    config = parse_flags(LeaksConfig, DESCRIPTION, arguments)
    leaks = find_leaks(config.leaks)
    if config.report is not None:
        write_leaks(config.report, leaks)
    sys.stdout.write(describe_leaks(leaks))


def _draw(arguments: list[str]) -> None:
    from jobs.preview import PreviewConfig, write_preview  # Imports torch, which nothing else here needs.

    config = parse_flags(PreviewConfig, DESCRIPTION, arguments)
    write_preview(config.release, config.preview)
    sys.stdout.write(f"{config.release / PREVIEW_NAME}\n")


_MODES: dict[str, Callable[[list[str]], None]] = {
    "--verify": _verify,
    "--leaks": _compare,
    "--release": _draw,
}


def _describe_plan(job: PreprocessConfig) -> str:
    return f"{job.release_dir} would hold {describe(outline_release(job))}\n"


def _describe_spec(spec: SourceSpec) -> str:
    labels = f"classes of {spec.label_space_name}" if spec.label_space_name else "objects without class"
    counts = [_describe_counts(split, spec.counts[split]) for split in spec.splits if split in spec.counts]
    official = f"; counted: {'; '.join(counts)}" if counts else ""
    return (
        f"{spec.name}: {spec.kind}s for {spec.task}, splits {' '.join(spec.splits)}\n"
        f"  needs {spec.needs}\n  official size {spec.expects}{official}\n"
        f"  yields masks, {', '.join([labels, *(_PLURALS[prompt] for prompt in spec.prompts)])}\n"
        f"  license {spec.license}\n"
    )


def _describe_counts(split: str, counts: ExpectedCounts) -> str:
    known = {
        "items": counts.num_items,
        "frames": counts.num_frames,
        "objects": counts.num_objects,
        "expressions": counts.num_expressions,
    }
    return f"{split} {', '.join(f'{count:,} {name}' for name, count in known.items() if count is not None)}"


def _describe_codes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{code} {count}" for code, count in counts.items()) or "none"


if __name__ == "__main__":
    run_main(main)
