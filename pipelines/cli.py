"""Turn a command line into a configuration, and a mistake into one line.

Every script takes its configuration here: a recipe with typed overrides (``parse_config``) or plain flags
(``parse_flags``). tyro parses; this module adds what it lacks for job scripts: recipes, a refusal of flags
that index into tuples, and errors of one line that a log of a cluster shows whole.
"""

import difflib
import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import fields, is_dataclass
from itertools import dropwhile, takewhile
from typing import Any, NoReturn, TypeVar, get_type_hints

import tyro

from jobs.artifacts import to_plain
from jobs.errors import user_message

logger = logging.getLogger(__name__)

C = TypeVar("C")

_OUR_LOGGERS = ("__main__", "pipelines", "jobs", "preprocessing", "univs")
_RULE = set(" |+-")
"""What lines of tyro's plain frames are made of."""
_PLAINER = {
    "invalid literal for int() with base 10:": "expected an integer, got",
    "could not convert string to float:": "expected a number, got",
}


def parse_config(
    recipes: Mapping[str, Callable[[], C]],
    default: str,
    argv: Sequence[str] | None = None,
    more_help: str = "",
) -> tuple[C, bool]:
    """Build the recipe that ``--recipe`` names, apply ``--a.b value`` overrides, and tell whether to dry-run.

    A mistake ends the process with exit code 2 and one line on stderr.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    dry_run = take_switch(arguments, "--dry-run")
    name = _take_value(arguments, "--recipe", default)
    if name not in recipes:
        fail(
            f"--recipe {name}: no such recipe, expected one of {', '.join(recipes)}{_closest(name, recipes)}"
        )
    recipe = recipes[name]
    description = (
        f"{_docstring(recipe)}\n\n--recipe NAME: one of {', '.join(recipes)} "
        f"(default: {default}; shown: {name}).\n--dry-run: say what would be done and stop.{more_help}"
    )
    return _parse(recipe(), arguments, description), dry_run


def parse_flags(config_type: type[C], description: str, argv: Sequence[str] | None = None) -> C:
    """Build a configuration from flags alone, one per field; mistakes end as in ``parse_config``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _refuse_unknown(arguments, tuple(_flags_of_type(config_type)))
    # Here a boolean is a switch: `--overwrite`.
    more = {"config": (tyro.conf.FlagCreatePairsOff,)}
    return _run_tyro(config_type, arguments, description, more)


def take_switch(arguments: list[str], flag: str) -> bool:
    """Remove a flag without a value; tell whether it was there."""
    found = flag in arguments
    arguments[:] = [argument for argument in arguments if argument != flag]
    return found


def join_repeated(arguments: Sequence[str], flag: str) -> list[str]:
    """Turn ``--flag a --flag b`` into ``--flag a b``: of repeated flags, tyro keeps the last alone."""
    others: list[str] = []
    values: list[str] = []
    is_value = False
    for argument in arguments:
        name, _, value = argument.partition("=")
        if argument.startswith("--"):
            is_value = name == flag
        if name != flag:
            (values if is_value else others).append(argument)
        elif value:
            values.append(value)
    return [*others, flag, *values] if values else others


def take_count(arguments: list[str], flag: str) -> int | None:
    """Remove a flag with a whole number, at least 0; give the number, ``None`` if the flag is not there."""
    text = _take_value(arguments, flag, "")
    if text and not text.isdecimal():
        fail(f"{flag}: expected a whole number, got {text!r}")
    return int(text) if text else None


def run_main(main: Callable[[], None]) -> NoReturn:
    """Run an entry point: a user's mistake is one line and exit code 1, a bug keeps its traceback."""
    set_up_logging()
    try:
        main()
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        sys.exit(130)
    except (OSError, ValueError) as error:
        line = user_message(error)
        if line is None:
            raise
        logger.debug("where it came from", exc_info=error)
        sys.stderr.write(f"error: {line}\n")
        sys.exit(1)
    sys.exit(0)


def set_up_logging() -> None:
    """Log one line per event to stderr: ours from INFO (or ``UNIVS_LOG_LEVEL``), others' from WARNING."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S", force=True
    )
    for name in _OUR_LOGGERS:
        logging.getLogger(name).setLevel(os.environ.get("UNIVS_LOG_LEVEL", "INFO"))


def fail(line: str) -> NoReturn:
    """End the process for a command line that makes no sense."""
    sys.stderr.write(f"error: {line}\n")
    sys.exit(2)


def _parse(default: C, arguments: list[str], description: str) -> C:
    _refuse_unknown(arguments, tuple(_flags_of_value(default)))
    # Every override has one form, `--a.b value`, booleans too.
    more = {"default": default, "config": (tyro.conf.FlagConversionOff, tyro.conf.AvoidSubcommands)}
    return _run_tyro(type(default), arguments, description, more)


def _run_tyro(config_type: type[C], arguments: list[str], description: str, more: dict[str, Any]) -> C:
    if {"-h", "--help"} & set(arguments):
        return _cli(config_type, arguments, description, more)
    complaint = io.StringIO()
    columns = os.environ.get("COLUMNS")
    # Wide enough that no message is wrapped; and what is no terminal gets plain frames without colors.
    os.environ["COLUMNS"] = "10000"
    try:
        with redirect_stderr(complaint), redirect_stdout(io.StringIO()):
            return _cli(config_type, arguments, description, more)
    except SystemExit:
        fail(_condense(complaint.getvalue()))
    finally:
        os.environ.pop("COLUMNS")
        if columns is not None:
            os.environ["COLUMNS"] = columns


def _cli(config_type: type[C], arguments: list[str], description: str, more: dict[str, Any]) -> C:
    config: C = tyro.cli(
        config_type,
        args=arguments,
        description=description,
        registry=_registry(),
        **more,
    )
    return config


def _registry() -> tyro.constructors.ConstructorRegistry:
    """Keep tuples of dataclasses, which only a recipe changes, out of flags and help."""
    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def tuple_of_dataclasses(
        info: tyro.constructors.PrimitiveTypeInfo,
    ) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
        if not _is_tuple_of_dataclasses(info.type):
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar="(set in the recipe)",
            instance_from_str=_refuse_value,
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [f"{len(value)} entries"],
        )

    return registry


def _refuse_value(values: list[str]) -> NoReturn:
    raise ValueError(f"{values[0]!r} cannot be given here, change it in a recipe")


def _is_tuple_of_dataclasses(hint: Any) -> bool:
    return getattr(hint, "__origin__", None) is tuple and any(is_dataclass(part) for part in hint.__args__)


def _flags_of_value(value: Any, prefix: str = "") -> Iterator[str]:
    for field in fields(value):
        part = getattr(value, field.name)
        if is_dataclass(part):
            yield from _flags_of_value(part, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def _flags_of_type(config_type: Any, prefix: str = "") -> Iterator[str]:
    hints = get_type_hints(config_type)
    for field in fields(config_type):
        if is_dataclass(hints[field.name]):
            yield from _flags_of_type(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def _refuse_unknown(arguments: list[str], known: tuple[str, ...]) -> None:
    options = {name.replace("_", "-") for name in known} | {"help"}
    for argument in arguments:
        if not argument.startswith("--"):
            continue
        flag = argument[2:].partition("=")[0].replace("_", "-")
        if re.search(r"\.\d+(\.|$)", flag):
            fail(f"--{flag} reaches into a tuple, which only a recipe can change: write a recipe for it")
        if flag not in options:
            fail(f"--{flag}: no such option{_closest(flag, options, '--')}")


def _closest(word: str, known: "Mapping[str, Any] | set[str]", prefix: str = "") -> str:
    found = difflib.get_close_matches(word, sorted(known), n=1)
    return f", did you mean {prefix}{found[0]}?" if found else ", --help lists them" if prefix else ""


def _take_value(arguments: list[str], flag: str, default: str) -> str:
    value = default
    while found := next((i for i, text in enumerate(arguments) if text.partition("=")[0] == flag), -1) + 1:
        text = arguments.pop(found - 1)
        if "=" in text:
            value = text.partition("=")[2]
        elif found <= len(arguments):
            value = arguments.pop(found - 1)
        else:
            fail(f"{flag} needs a value")
    return value


def _condense(box: str) -> str:
    """Make one line of the first paragraph under the title of tyro's framed message."""
    rows = [line.strip(" |") if set(line) - _RULE else "" for line in box.splitlines()[1:]]
    paragraph = takewhile(bool, dropwhile(lambda row: not row, rows))
    line = " ".join(paragraph).removeprefix("Error parsing ")
    for python_says, we_say in _PLAINER.items():
        line = line.replace(python_says, we_say)
    return line or "the command line makes no sense, see --help"


def _docstring(recipe: Callable[[], Any]) -> str:
    return (recipe.__doc__ or "").strip().partition("\n\n")[0]


def say(text: str) -> None:
    """Print a result: what the caller of a script reads, as opposed to its log."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def show_config(config: object) -> None:
    """Print a configuration as JSON."""
    say(json.dumps(to_plain(config), indent=2))
