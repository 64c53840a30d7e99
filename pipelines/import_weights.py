"""Make a checkpoint of weights trained elsewhere, or give one of ours back to the original's code.

    python pipelines/import_weights.py --from univs_r50.pth --out univs.safetensors --text RN50x4.pt
    python pipelines/import_weights.py --from mask2former.pkl --out start.safetensors
    python pipelines/import_weights.py --from HUB_ID --out m2f.safetensors --class-head linear --position 2d
    python pipelines/import_weights.py --export --from univs.safetensors --out univs.pth

The second starts UniVS from Mask2Former's masks; the third keeps Mask2Former's classes and outputs as they
are. What a file is, and how big its model, is read from the file.
"""

import re
import sys
from collections.abc import Sequence

from pipelines.cli import parse_flags, run_main, say, take_switch
from univs.config import ModelConfig
from univs.model.importing import ExportConfig, ImportConfig, ImportSummary, export_weights, import_weights

SHORT = {"--from": "--source", "--queries": "--num-queries"}
MAX_NAMES = 6
"""Dropped entries that the summary shows by name."""
DESCRIPTION = (
    f"{__doc__}\n--from and --queries are short for --source and --num-queries.\n"
    "--export: write UniVS's own format instead; takes --from and --out."
)


def main() -> None:
    """Parse flags, import or export, and print what became of the tensors."""
    arguments = [
        re.sub(r"^--(from|queries)(?=$|=)", lambda match: SHORT[match[0]], text) for text in sys.argv[1:]
    ]
    if take_switch(arguments, "--export"):
        settings = parse_flags(ExportConfig, DESCRIPTION, arguments)
        count = export_weights(settings)
        say(f"exported     {count} tensors, all but the text tower's, which UniVS keeps apart")
        say(f"weights      {settings.out}")
        return
    job = parse_flags(ImportConfig, DESCRIPTION, arguments)
    say(describe(import_weights(job)))
    say(f"checkpoint   {job.out}")


def describe(summary: ImportSummary) -> str:
    """Show architecture, and what was taken, made and left out."""
    lines = [
        ("architecture", _architecture(summary.config)),
        ("taken", f"{summary.num_taken:,} parameters in {summary.num_tensors} tensors of {summary.kind}"),
        *(("new", text) for text in summary.new),
        ("dropped", _dropped(summary.dropped)),
        *(("note", text) for text in summary.notes),
    ]
    return "\n".join(f"{title:13}{text}" for title, text in lines)


def _architecture(config: ModelConfig) -> str:
    return (
        f"{config.backbone.name}, {config.hidden_dim} channels, {config.decoder.num_queries} queries, "
        f"{config.pixel_decoder.num_layers} pixel decoder layers, "
        f"{config.decoder.num_layers} decoder layers, {config.class_head} class head"
    )


def _dropped(names: Sequence[str]) -> str:
    if not names:
        return "nothing"
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{len(names)}: {', '.join(names[:MAX_NAMES])}{more}"


if __name__ == "__main__":
    run_main(main)
