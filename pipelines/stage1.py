"""Stage 1: joint training on images.

ray job submit --working-dir . -- python pipelines/stage1.py [--recipe NAME] [--train.num-steps 1000]
"""

from jobs.curriculum import describe_plan
from jobs.session import ClusterConfig, ray_session
from jobs.train import train_stage
from pipelines.cli import parse_config, run_main, say, show_config
from pipelines.recipes.stage1 import RECIPES


def main() -> None:
    """Train the stage the command line describes, and first what it lacks; print the checkpoint."""
    config, dry_run = parse_config(RECIPES, default="miniature")
    cluster = ClusterConfig.from_environment()
    if dry_run:
        show_config(config)
    say(describe_plan(config, cluster.run_root))
    if not dry_run:
        with ray_session(cluster) as session:
            say(str(train_stage(config, session)))


if __name__ == "__main__":
    run_main(main)
