import json
from pathlib import Path

from jobs.evaluate import BenchmarkResult, Evaluation
from jobs.evaluator import Picture
from jobs.report_parts import loss_plots, machine_facts, picture_media, score_columns
from jobs.session import ClusterConfig, Session


def make_evaluation(**scores) -> Evaluation:
    benchmarks = tuple(
        BenchmarkResult(name=name, scores=values, per_item={}, num_items=1, num_frames=1, actor_s=1.0)
        for name, values in scores.items()
    )
    return Evaluation(benchmarks=benchmarks, pictures=(), seconds=1.0)


def test_columns_hold_what_each_checkpoint_measured():
    before = make_evaluation(vipseg={"vpq": 1.0}, vspw={"miou": 2.0})
    after = make_evaluation(vipseg={"vpq": 3.0, "stq": 4.0})
    assert score_columns({"untrained": before, "stage1": after}) == {
        "vipseg": {"vpq": {"untrained": 1.0, "stage1": 3.0}, "stq": {"stage1": 4.0}},
        "vspw": {"miou": {"untrained": 2.0}},
    }


def test_pictures_come_in_the_same_order_however_actors_finish():
    film = Picture(benchmark="vipseg", item_id="b", png=b"p", mp4=b"m")
    still = Picture(benchmark="coco_panoptic", item_id="a", png=b"q", mp4=b"")
    other = Picture(benchmark="vipseg", item_id="a", png=b"r", mp4=b"n")
    media = picture_media([film, still, other])
    assert [(part.caption, part.mime, part.content) for part in media] == [
        ("coco_panoptic a", "image/png", b"q"),
        ("vipseg a", "video/mp4", b"n"),
        ("vipseg b", "video/mp4", b"m"),
        ("vipseg a, middle frame", "image/png", b"r"),
        ("vipseg b, middle frame", "image/png", b"p"),
    ]
    assert picture_media([other, still, film]) == media


def test_loss_of_every_task_is_a_curve_of_its_stage(tmp_path):
    log = tmp_path / "steps.jsonl"
    steps = [{"step": 10 * n, "loss/detection": 5.0 / n, "loss_detection/mask": 1.0} for n in (1, 2, 3)]
    log.write_text("".join(json.dumps(step) + "\n" for step in [*steps, {"step": 40, "loss/sot": 1.0}]))
    first, second = loss_plots({"stage1": log, "stage2": tmp_path / "nothing"})
    assert (first.caption, first.mime) == ("stage1: loss by task", "image/svg+xml")
    text = first.content.decode()
    assert ">detection<" in text
    assert ">sot<" in text
    assert "mask" not in text.replace("clip-path", "").replace("clipPath", "")
    assert second.content.startswith(b"<?xml")


def test_facts_name_machine_and_software():
    session = Session(
        cluster=ClusterConfig(run_root=Path("runs")), is_local=True, num_cpus=7, num_gpus=0, num_nodes=2
    )
    facts = machine_facts(session)
    assert facts["machine"].startswith("2 nodes, 7 CPUs (")
    assert "torch" in facts["software"]
