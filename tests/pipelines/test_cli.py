import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest

from jobs.errors import UserError
from jobs.session import ClusterConfig
from pipelines.cli import parse_config, parse_flags, run_main, take_switch


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    name: str = "a"
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    max_steps: int = 5
    """Optimizer steps."""
    rate: float = 1e-4
    amp: bool = False
    kind: Literal["warm", "cold"] = "warm"
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.max_steps < 1:
            raise ValueError(f"max_steps {self.max_steps} must be positive")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    out: Path = Path("runs")
    train: Train = field(default_factory=Train)
    sources: tuple[Source, ...] = (Source(), Source(name="b"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Flags:
    source: Path
    num_workers: int = 0
    overwrite: bool = False


def smoke() -> Stage:
    """Recipe for a quick look.

    Costs nothing.
    """
    return Stage()


def swin_l() -> Stage:
    """Recipe with the large backbone."""
    return replace(smoke(), train=Train(rate=5e-5))


RECIPES = {"smoke": smoke, "swin_l": swin_l}


def parse(*argv: str) -> tuple[Stage, bool]:
    return parse_config(RECIPES, "smoke", argv)


def test_no_arguments_give_the_default_recipe():
    assert parse() == (smoke(), False)


@pytest.mark.parametrize("argv", [("--recipe", "swin_l"), ("--recipe=swin_l",)])
def test_recipe_is_chosen_by_name(argv):
    assert parse(*argv) == (swin_l(), False)


def test_overrides_are_typed_and_leave_the_rest_to_the_recipe():
    config, dry_run = parse(
        *("--train.max-steps", "7", "--recipe", "swin_l", "--train.amp", "True", "--dry-run"),
        *("--train.kind=cold", "--train.limit", "3", "--out", "elsewhere"),
    )
    assert dry_run
    expected = Train(max_steps=7, rate=5e-5, amp=True, kind="cold", limit=3)
    assert config == replace(swin_l(), train=expected, out=Path("elsewhere"))


def test_underscore_and_dash_are_the_same():
    assert parse("--train.max_steps", "7") == parse("--train.max-steps", "7")


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (
            "--recipe swim_l",
            "--recipe swim_l: no such recipe, expected one of smoke, swin_l, did you mean swin_l?",
        ),
        ("--recipe", "--recipe needs a value"),
        ("--train.max-stesp 7", "--train.max-stesp: no such option, did you mean --train.max-steps?"),
        ("--zzz 7", "--zzz: no such option, --help lists them"),
        ("--train.max-steps ten", "--train.max-steps: expected an integer, got 'ten'"),
        ("--train.max-steps 1.5", "--train.max-steps: expected an integer, got '1.5'"),
        ("--train.rate fast", "--train.rate: expected a number, got 'fast'"),
        ("--train.max-steps 0", "train: max_steps 0 must be positive"),
        (
            "--train.amp maybe",
            "invalid choice 'maybe' for argument '--train.amp'. Expected one of ('True', 'False').",
        ),
        (
            "--train.kind hot",
            "invalid choice 'hot' for argument '--train.kind'. Expected one of ('warm', 'cold').",
        ),
        ("--train.max-steps", "Missing value for argument '--train.max-steps'. Expected 1 values."),
        ("stray", "Unrecognized options: stray"),
        (
            "--sources.0.weight 2",
            "--sources.0.weight reaches into a tuple, which only a recipe can change: write a recipe for it",
        ),
        ("--sources x", "--sources: 'x' cannot be given here, change it in a recipe"),
    ],
)
def test_mistake_is_one_line_and_exit_code_two(argv, line, capsys):
    with pytest.raises(SystemExit) as stop:
        parse(*argv.split())
    assert stop.value.code == 2
    assert capsys.readouterr() == ("", f"error: {line}\n")


def test_long_message_stays_on_one_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    value = "/".join(["folder"] * 20)
    with pytest.raises(SystemExit):
        parse("--train.max-steps", value)
    assert capsys.readouterr().err == f"error: --train.max-steps: expected an integer, got '{value}'\n"


def test_help_shows_recipes_fields_and_no_tuple_index(capsys):
    with pytest.raises(SystemExit) as stop:
        parse("--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for part in ("Recipe for a quick look.", "smoke, swin_l", "--train.max-steps INT", "Optimizer steps."):
        assert part in text
    assert "sources.0" not in text


def test_flags_need_what_has_no_default(capsys):
    assert parse_flags(Flags, "d", ["--source", "s", "--overwrite"]) == Flags(
        source=Path("s"), overwrite=True
    )
    with pytest.raises(SystemExit) as stop:
        parse_flags(Flags, "d", ["--num-workers", "2"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "--source" in error
    assert error.count("\n") == 1


def test_switch_is_taken_out_of_the_arguments():
    arguments = ["--a", "--list", "1"]
    assert take_switch(arguments, "--list")
    assert arguments == ["--a", "1"]
    assert not take_switch(arguments, "--list")


def raise_user_error() -> None:
    raise UserError("first\n  second")


def open_missing_file() -> None:
    Path("/nowhere/file").read_text()


def refuse_connection() -> None:
    raise ConnectionError("no answer at h:1")


def refuse_settings() -> None:
    ClusterConfig(num_cpus=-1)


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("main", "line", "code"),
    [
        (raise_user_error, "first second", 1),
        (open_missing_file, "/nowhere/file: No such file or directory", 1),
        (refuse_connection, "no answer at h:1", 1),
        (
            refuse_settings,
            "UNIVS_NUM_CPUS must be at least 0 and UNIVS_CONNECT_TIMEOUT_S positive, got -1 and 10.0",
            1,
        ),
        (interrupt, "interrupted", 130),
    ],
)
def test_users_mistake_ends_in_one_line(main, line, code, capsys):
    with pytest.raises(SystemExit) as stop:
        run_main(main)
    assert stop.value.code == code
    assert capsys.readouterr() == ("", f"error: {line}\n")


def test_bug_keeps_its_traceback(capsys):
    def convert() -> None:
        int("x")

    with pytest.raises(ValueError, match="invalid literal"):
        run_main(convert)
    assert capsys.readouterr().err == ""


def test_success_exits_with_zero_and_logs_ours_only(capsys):
    def work() -> None:
        logging.getLogger("jobs.anything").info("ours")
        logging.getLogger("urllib3").info("theirs")

    with pytest.raises(SystemExit) as stop:
        run_main(work)
    assert stop.value.code == 0
    error = capsys.readouterr().err
    assert error.endswith(" INFO ours\n")
    assert "theirs" not in error
