"""Score a checkpoint on every benchmark in parallel, and write report and submissions.

python pipelines/evaluate.py --checkpoint FILE --benchmarks all --data RELEASES --out DIR [--recipe released]
"""

import re
import sys

from jobs.report import score_table
from jobs.score_checkpoint import score_checkpoint
from jobs.session import ClusterConfig, ray_session
from pipelines.cli import parse_config, run_main, say, show_config
from pipelines.recipes.evaluate import RECIPES


def main() -> None:
    """Evaluate, then print the score table and where the report is."""
    # The one override everybody needs has a short name.
    arguments = [re.sub(r"^--benchmarks\b", "--evaluation.benchmarks", text) for text in sys.argv[1:]]
    job, dry_run = parse_config(RECIPES, default="miniature", argv=arguments)
    if dry_run:
        show_config(job)
        return
    with ray_session(ClusterConfig.from_environment()) as session:
        report = score_checkpoint(job, session)
    say(score_table(report))
    say(f"report {job.out / 'report.html'}")


if __name__ == "__main__":
    run_main(main)
