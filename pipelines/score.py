"""Score anyone's predictions, in the official formats of a benchmark: no model, no Ray.

    python pipelines/score.py --benchmark vipseg --gt VIPSeg --pred predictions --out scores.json
    python pipelines/score.py --check-submission results.zip --benchmark ytvis_2021 --gt valid
    python pipelines/score.py --list      # benchmarks, the files they need, quirks that can be mended

The official evaluator's value is the default, quirks included. --dry-run opens everything and says what
would be scored. --check-submission names the first thing in a zip that a server would refuse; its --gt is
what the organizers publish of the split, and --check-submission x --help shows its other flags.
"""

import sys

from jobs.checking import CheckConfig, check_submission
from jobs.score_report import scores_table, write_scores
from jobs.scoring import ScoreConfig, open_config, score_files
from pipelines.cli import join_repeated, parse_flags, run_main, say, take_switch
from univs.evaluation.official.case import OfficialBenchmark
from univs.evaluation.official.catalog import OFFICIAL
from univs.evaluation.submission_checks.archive import MB
from univs.evaluation.submission_checks.catalog import FORMATS, SubmissionFormat


def main() -> None:
    """List, check a submission, say what would be scored, or score."""
    arguments = join_repeated(sys.argv[1:], "--mend")
    if take_switch(arguments, "--list"):
        say("\n".join([*map(_describe, OFFICIAL.values()), *map(_describe_zip, FORMATS.values())]))
    elif any(argument.partition("=")[0] == "--check-submission" for argument in arguments):
        say(check_submission(parse_flags(CheckConfig, __doc__ or "", arguments)))
    else:
        is_dry = take_switch(arguments, "--dry-run")
        config = parse_flags(ScoreConfig, __doc__ or "", arguments)
        if is_dry:
            _announce(config)
        else:
            _score(config)


def _score(config: ScoreConfig) -> None:
    scored = score_files(config)
    page = write_scores(scored)
    say(scores_table(scored))
    say(f"{config.out} and {page}")


def _announce(config: ScoreConfig) -> None:
    case = open_config(config)
    missing = f", {len(case.missing)} of them not predicted" if case.missing else ""
    say(f"would score {len(case.names)} items of {config.benchmark}{missing}, and write {config.out}")


def _describe(benchmark: OfficialBenchmark) -> str:
    mends = [f"  --mend {name}: {text}" for name, text in benchmark.mends.items()]
    title = f"{benchmark.name}: {benchmark.title}; {', '.join(benchmark.metrics)}"
    return "\n".join(
        [title, f"  --gt    {benchmark.gt_layout}", f"  --pred  {benchmark.pred_layout}", *mends]
    )


def _describe_zip(form: SubmissionFormat) -> str:
    limit = (
        f"at most {form.limit.num_bytes // MB} MB ({form.limit.source})"
        if form.limit
        else "size limit unknown"
    )
    return f"{form.name} --check-submission ZIP: {form.layout}; {limit}\n  --gt    {form.inputs}"


if __name__ == "__main__":
    run_main(main)
