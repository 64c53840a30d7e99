"""Turn one split of a dataset, in its official layout, into a release of WebDataset shards.

    python pipelines/preprocess.py --dataset vipseg --split train --source VIPSeg --out releases
    ray job submit --working-dir . -- python pipelines/preprocess.py --dataset ...   # absolute paths

Run the same command again after any failure: finished shards are kept.
"""

import logging
import sys

from jobs.preprocess import PreprocessConfig, check_job, describe, outline_release, preprocess
from jobs.session import ClusterConfig, ray_session
from pipelines.cli import parse_flags, run_main, take_switch
from preprocessing.sources.catalog import SOURCES
from univs.schema import Manifest

logger = logging.getLogger(__name__)

DESCRIPTION = f"{__doc__}\n--list: show the datasets and stop.\n--dry-run: scan, show the plan and stop."


def main() -> None:
    """Parse flags, then list, plan, or build."""
    arguments = sys.argv[1:]
    if take_switch(arguments, "--list"):
        sys.stdout.write(list_datasets())
        return
    dry_run = take_switch(arguments, "--dry-run")
    job = parse_flags(PreprocessConfig, DESCRIPTION, arguments)
    if dry_run:
        sys.stdout.write(f"{job.release_dir} would hold {describe(outline_release(job))}\n")
        return
    cluster = ClusterConfig.from_environment()
    check_job(job, sees_source=not cluster.ray_address)
    with ray_session(cluster) as session:
        manifest = preprocess(job, session)
    sys.stdout.write(report(job, manifest))


def list_datasets() -> str:
    """Show what each dataset needs and yields."""
    specs = [source.spec for source in SOURCES.values()]
    return "".join(
        f"{spec.name}: {spec.kind}s for {spec.task}, splits {' '.join(spec.splits)}\n"
        f"  needs {spec.needs}\n  official size {spec.expects}\n  license {spec.license}\n"
        for spec in specs
    )


def report(job: PreprocessConfig, manifest: Manifest) -> str:
    """Show counts, rejects and shards of a finished release, and where it is."""
    rejects = ", ".join(f"{code} {count}" for code, count in manifest.rejects.items()) or "none"
    shards = "".join(f"{entry.sha256}  {entry.name}\n" for entry in manifest.shards)
    return (
        f"items {manifest.num_items}, samples {manifest.num_samples}, frames {manifest.num_frames}, "
        f"objects {manifest.num_objects}, expressions {manifest.num_expressions}\n"
        f"rejects {rejects}\n{shards}release {job.release_dir}\n"
    )


if __name__ == "__main__":
    run_main(main)
