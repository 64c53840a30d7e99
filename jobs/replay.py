"""Rebuild and draw the batch that a stage trains, or trained, on at some step.

The feed is a pure function of the stage's configuration, its releases and the step, so nothing needs to be
kept while training: what is drawn comes out of the training loader itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.artifacts import read_record
from jobs.config import StageConfig
from jobs.curriculum import Places, is_trained, mixture_of, places_of, releases_of
from jobs.errors import UserError
from jobs.pages import exact_picture, photograph, render_page
from jobs.releases import require_releases
from jobs.report import Media
from preprocessing.atomic import atomic_write
from univs.data.batch import ClipBatch
from univs.data.loader import make_loader
from univs.data.pictures import ClipPicture, draw_batch
from univs.draw import color_of


@dataclass(frozen=True, kw_only=True, slots=True)
class _Clip:
    picture: ClipPicture
    slot: int
    worker: int
    size: str
    inputs: tuple[Media, ...]
    targets: tuple[Media, ...]


def replay_step(config: StageConfig, run_root: Path, step: int) -> Path:
    """Draw the batch of a step over all workers; give the HTML file, in the stage's folder.

    Raises:
        UserError: the stage has no such step, a release is missing or not the one the stage was trained on,
            or the stage reads shards from start to end, which has no order to go back to.
    """
    batches = rebuild_batches(config, run_root, step)
    folder = places_of(config, run_root).stage / "replay"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:08d}.html"
    num_workers = config.workers.num_workers
    page = render_page(
        "replay.html",
        title=f"{config.stage} of {config.name}, step {step}",
        groups=[(batch, _describe(batches, group, num_workers)) for group, batch in enumerate(batches)],
        num_workers=num_workers,
        colors=color_of,
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def rebuild_batches(config: StageConfig, run_root: Path, step: int) -> tuple[ClipBatch, ...]:
    """Give what all workers train on in a step, one batch per dataset of the step; see ``replay_step``.

    Batch ``g`` of ``G`` holds the slots g, g + G, ...; worker w of W has those that are w modulo W.
    """
    if not 0 <= step < config.train.num_steps:
        raise UserError(f"--replay {step}: {config.stage} has steps 0 to {config.train.num_steps - 1}")
    if config.loader.access != "indexed":
        raise UserError(
            f"--replay {step}: loader.access is {config.loader.access!r}, whose order is no function of the "
            "step; only a stage with loader.access indexed can be replayed"
        )
    places = places_of(config, run_root)
    _check_inputs(config, run_root, places)
    sources, loader = mixture_of(config, places), replace(config.loader, num_workers=0)
    num_groups = loader.datasets_per_step
    feeds = (
        make_loader(
            sources, loader, seed=config.train.seed, start_step=step, rank=group, world_size=num_groups
        )
        for group in range(num_groups)
    )
    return tuple(next(feed) for feed in feeds)


def _check_inputs(config: StageConfig, run_root: Path, places: Places) -> None:
    """Refuse releases that are not those a finished stage was trained on."""
    found = require_releases(places.releases, releases_of(config))
    if not is_trained(config, run_root):
        return
    recorded: Mapping[str, str] = read_record(places.stage, "checkpoint").inputs
    for name, digest in found.items():
        if recorded.get(name) != digest:
            raise UserError(
                f"{places.releases / name}: is another release than the one {config.stage} was trained on; "
                "its batches cannot be rebuilt from it"
            )


def _describe(batches: Sequence[ClipBatch], group: int, num_workers: int) -> list[_Clip]:
    clips = []
    for place, picture in enumerate(draw_batch(batches[group])):
        slot = group + place * len(batches)
        height, width = picture.inputs[0].shape[:2]
        clips.append(
            _Clip(
                picture=picture,
                slot=slot,
                worker=slot % num_workers,
                size=f"{width} x {height}",
                inputs=tuple(exact_picture(frame) for frame in picture.inputs),
                targets=tuple(photograph(frame) for frame in picture.targets),
            )
        )
    return clips
