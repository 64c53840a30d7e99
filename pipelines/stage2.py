"""Stage 2: joint training on short clips of videos.

ray job submit --working-dir . -- python pipelines/stage2.py [--recipe NAME] [--train.num-steps 1000]
python pipelines/stage2.py [the same flags] --replay STEP   # draw the batch of a step
"""

from pipelines.cli import run_main
from pipelines.recipes.stage2 import RECIPES
from pipelines.stages import run_stage


def main() -> None:
    """Train the stage the command line describes, and first what it lacks, or replay a step of it."""
    run_stage(RECIPES)


if __name__ == "__main__":
    run_main(main)
