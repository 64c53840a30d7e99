"""The whole product on generated data: worlds, shards, three stages, all benchmarks, one report.

make demo
"""

from pathlib import Path

from jobs.quickstart import run_quickstart
from jobs.report import score_table
from jobs.session import ClusterConfig, ray_session
from pipelines.cli import parse_config, run_main, say, show_config
from pipelines.recipes.quickstart import RECIPES


def main() -> None:
    """Run everything, then print the scores, where the report is and how to open the dashboard."""
    config, dry_run = parse_config(RECIPES, default="miniature")
    cluster = ClusterConfig.from_environment(run_root=Path("runs/demo"))
    if dry_run:
        show_config(config)
        return
    with ray_session(cluster) as session:
        report = run_quickstart(config, session)
    say(score_table(report))
    say(f"report     {cluster.run_root / 'report.html'}")
    say(f"dashboard  .venv/bin/mlflow server --host 127.0.0.1 --backend-store-uri {cluster.mlflow_uri}")


if __name__ == "__main__":
    run_main(main)
