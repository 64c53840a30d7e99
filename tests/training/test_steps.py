from dataclasses import replace

import pytest
import torch

from univs.training.ema import Ema
from univs.training.objective import Objective
from univs.training.optimizer import build_optimizer
from univs.training.state import load_training_state, save_training_state
from univs.training.steps import step_generator, train_steps

CPU = torch.device("cpu")


def _batches(make_batch, start: int, tasks=("detection", "sot", "grounding")):
    step = start
    while True:
        yield make_batch(tasks[step % len(tasks)], num_frames=2, step=step)
        step += 1


def _flat(steps):
    return [report for reports in steps for report in reports]


def _start(make_model, config):
    objective = Objective(make_model(), config)
    return objective, build_optimizer(objective.model, config.optimizer), Ema(objective.model, 0.9)


@pytest.mark.parametrize(
    ("task", "visual_probability"), [("detection", 0.0), ("detection", 1.0), ("sot", 0.0), ("grounding", 0.0)]
)
def test_train_steps_overfit_one_batch(make_model, make_batch, make_config, task, visual_probability):
    config = make_config(
        num_steps=20,
        losses={"num_points": 128},
        prompts={"visual_probability": visual_probability},
        optimizer={"learning_rate": 4e-3},
    )
    objective, optimizer, _ = _start(make_model, config)
    batch = make_batch(task, num_frames=2, counts=(2,))
    batches = (replace(batch, step=step) for step in range(20))
    reports = _flat(train_steps(objective, batches, optimizer, config, CPU))
    assert reports[-1].loss < reports[0].loss / 3
    for name in ("mask", "prompt_mask"):
        assert reports[-1].losses[name] < reports[0].losses[name] / 4


def test_train_steps_resumed_equal_a_straight_run_bit_for_bit(make_model, make_batch, make_config, tmp_path):
    config = make_config(num_steps=6, optimizer={"warmup_steps": 2, "milestones": (0.5,)})
    objective, optimizer, ema = _start(make_model, config)
    straight = _flat(train_steps(objective, _batches(make_batch, 0), optimizer, config, CPU, ema=ema))

    first, first_optimizer, first_ema = _start(make_model, config)
    steps = train_steps(first, _batches(make_batch, 0), first_optimizer, config, CPU, ema=first_ema)
    for _ in range(3):
        (report,) = next(steps)
    save_training_state(tmp_path / "state.pt", report.step + 1, first_optimizer, first_ema)
    torch.save(first.model.state_dict(), tmp_path / "model.pt")

    torch.manual_seed(99)
    second, second_optimizer, second_ema = _start(lambda: make_model(seed=1), config)
    second.model.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    start = load_training_state(tmp_path / "state.pt", second_optimizer, second_ema)
    batches = _batches(make_batch, start)
    resumed = _flat(train_steps(second, batches, second_optimizer, config, CPU, start, second_ema))

    assert start == 3
    assert [report.losses for report in resumed] == [report.losses for report in straight[3:]]
    for name, value in objective.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    for name, value in ema.state_dict().items():
        assert torch.equal(value, second_ema.state_dict()[name]), name


def test_train_steps_report_what_they_did(make_model, make_batch, make_config):
    config = make_config(num_steps=5, report_every_steps=2, optimizer={"learning_rate": 1e-3, "decay": 0.5})
    objective, optimizer, _ = _start(make_model, config)
    together = list(train_steps(objective, _batches(make_batch, 0), optimizer, config, CPU))
    assert [[report.step for report in reports] for reports in together] == [[0, 1], [2, 3], [4]]
    reports = [report for reports in together for report in reports]
    assert [report.task for report in reports] == ["detection", "sot", "grounding", "detection", "sot"]
    assert {report.learning_rate for report in reports} == {1e-3}
    for report in reports:
        assert (report.num_clips, report.num_frames) == (2, 4)
        assert report.loss == pytest.approx(sum(report.losses.values()))
        assert report.grad_norm > 0
        assert 0 < report.data_wait_s < report.step_s


def test_train_steps_clip_the_gradient(make_model, make_batch, make_config):
    config = make_config(num_steps=1, optimizer={"max_grad_norm": 1e-3})
    objective, optimizer, _ = _start(make_model, config)
    ((report,),) = train_steps(objective, _batches(make_batch, 0), optimizer, config, CPU)
    norm = torch.stack([p.grad.norm() for p in objective.parameters() if p.grad is not None]).norm()
    assert report.grad_norm > 1e-3
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("report_every_steps", [1, 3])
def test_train_steps_name_the_batch_of_a_loss_that_is_not_finite(
    make_model, make_batch, make_config, report_every_steps
):
    config = make_config(num_steps=3, report_every_steps=report_every_steps)
    objective, optimizer, _ = _start(make_model, config)
    batches = [make_batch("sot", num_frames=1, step=step) for step in range(3)]
    batches[1] = replace(batches[1], frames=batches[1].frames * torch.nan, keys=("bad-0", "bad-1"))
    with pytest.raises(FloatingPointError, match=r"step 1: .*'squares'.*'bad-0', 'bad-1'"):
        list(train_steps(objective, iter(batches), optimizer, config, CPU))


def test_train_steps_refuse_the_batch_of_another_step(make_model, make_batch, make_config):
    config = make_config()
    objective, optimizer, _ = _start(make_model, config)
    with pytest.raises(ValueError, match="batch of step 0 at step 2"):
        next(train_steps(objective, _batches(make_batch, 0), optimizer, config, CPU, start_step=2))


def test_train_steps_refuse_too_few_batches(make_model, make_config):
    config = make_config()
    objective, optimizer, _ = _start(make_model, config)
    with pytest.raises(ValueError, match="ended before step 0"):
        next(train_steps(objective, iter(()), optimizer, config, CPU))


def test_step_generator_differs_by_seed_step_and_rank():
    first = {
        int(torch.randint(2**62, (), generator=step_generator(*numbers)))
        for numbers in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    }
    assert len(first) == 4
