"""What the three stage scripts do with their command line."""

import sys
from collections.abc import Callable, Mapping

from jobs.config import StageConfig
from jobs.curriculum import describe_plan
from jobs.replay import replay_step
from jobs.session import ClusterConfig, ray_session
from jobs.train import train_stage
from pipelines.cli import parse_config, say, show_config, take_count

_HELP = "\n--replay STEP: write the batch of this step as pictures, and stop."


def run_stage(recipes: Mapping[str, Callable[[], StageConfig]]) -> None:
    """Train a stage and print its checkpoint, show what would be done, or draw the batch of a step."""
    arguments = sys.argv[1:]
    step = take_count(arguments, "--replay")
    config, dry_run = parse_config(recipes, default="miniature", argv=arguments, more_help=_HELP)
    cluster = ClusterConfig.from_environment()
    if step is not None:
        say(str(replay_step(config, cluster.run_root, step)))
        return
    if dry_run:
        show_config(config)
    say(describe_plan(config, cluster.run_root))
    if not dry_run:
        with ray_session(cluster) as session:
            say(str(train_stage(config, session)))
