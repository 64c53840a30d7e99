"""Score anyone's predictions, in the official formats of a benchmark: no model, no Ray.

    python pipelines/score.py --benchmark vipseg --gt VIPSeg --pred predictions --out scores.json
    python pipelines/score.py --list      # benchmarks, the files they need, quirks that can be mended

The official evaluator's value is the default, quirks included.
"""

import sys

from jobs.scoring import ScoreConfig, score_files
from pipelines.cli import parse_flags, run_main, say, take_switch
from univs.evaluation.official.case import OfficialBenchmark
from univs.evaluation.official.catalog import OFFICIAL


def main() -> None:
    """List, or score and print the table."""
    arguments = sys.argv[1:]
    if take_switch(arguments, "--list"):
        sys.stdout.write("".join(map(_describe, OFFICIAL.values())))
        return
    scored = score_files(parse_flags(ScoreConfig, __doc__ or "", arguments))
    for metric, value in scored.scores.values.items():
        say(f"{metric:<16}{value:>10.3f}")


def _describe(benchmark: OfficialBenchmark) -> str:
    mends = "".join(f"  --mend {name}: {text}\n" for name, text in benchmark.mends.items())
    return (
        f"{benchmark.name}: {benchmark.title}; {', '.join(benchmark.metrics)}\n"
        f"  --gt    {benchmark.gt_layout}\n  --pred  {benchmark.pred_layout}\n{mends}"
    )


if __name__ == "__main__":
    run_main(main)
