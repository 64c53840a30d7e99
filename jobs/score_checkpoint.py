"""Score one checkpoint and leave an evaluation artifact: report, submissions and record."""

import time
from collections.abc import Sequence

from jobs.artifacts import code_commit, digest_file, digest_files, digest_release, write_record
from jobs.config import EvaluateJob
from jobs.evaluate import evaluator_pool, log_scores, release_folder
from jobs.memory import peak_memory
from jobs.report import Report, write_report
from jobs.report_parts import machine_facts, picture_media, score_columns
from jobs.session import Session
from jobs.tracking import Tracking
from preprocessing.index import read_manifest
from univs.evaluation.benchmarks import BENCHMARKS
from univs.model.weights import load_checkpoint

COLUMN = "checkpoint"
"""Name of the one column of scores."""


def score_checkpoint(job: EvaluateJob, session: Session) -> Report:
    """Evaluate ``job.checkpoint`` on the releases under ``job.data``; write everything to ``job.out``.

    Raises:
        ValueError: the checkpoint is not one, a release is missing, or MLflow does not answer.
    """
    load_checkpoint(job.checkpoint)
    tracking = Tracking(uri=session.cluster.mlflow_uri, experiment="evaluation")
    tracking.check_reachable(session.cluster.connect_timeout_s)
    start, out, digest = time.monotonic(), job.out.absolute(), digest_file(job.checkpoint)
    with peak_memory() as peak, evaluator_pool(job.evaluation, session) as pool:
        evaluation = pool.evaluate(job.checkpoint.absolute(), job.data.absolute(), out / "submissions")
    log_scores(evaluation, digest[:12], f"evaluation/{digest}", tracking)
    report = Report(
        title=f"UniVS evaluation of {job.checkpoint.name}",
        columns=(COLUMN,),
        scores=score_columns({COLUMN: evaluation}),
        primary={name: spec.primary for name, spec in BENCHMARKS.items()},
        facts={"checkpoint": str(job.checkpoint), "commit": code_commit(), **machine_facts(session)},
        overlays=picture_media(evaluation.pictures),
        seconds=time.monotonic() - start,
        peak_rss_bytes=peak.rss_bytes,
        mlflow_uri=session.cluster.mlflow_uri,
    )
    write_report(out, report)
    _record(job, digest, [benchmark.name for benchmark in evaluation.benchmarks])
    return report


def _record(job: EvaluateJob, checkpoint_digest: str, names: Sequence[str]) -> None:
    folders = {name: release_folder(job.evaluation, job.data, name) for name in names}
    releases = {
        f"{name}/{job.evaluation.split}": digest_release(read_manifest(folder))
        for name, folder in folders.items()
    }
    files = ["report.json", "report.html", *(f"submissions/{name}.zip" for name in names)]
    write_record(
        job.out,
        kind="evaluation",
        config=job,
        inputs={"checkpoint": checkpoint_digest, **releases},
        outputs=digest_files(job.out, files),
    )
