"""Write files whole, name them safely, and pack them for upload."""

import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def zip_submission(path: Path, root: Path) -> None:
    """Pack the files below ``root`` for upload, named relative to it; equal files give equal bytes.

    One file is in memory at a time.
    """
    with _written(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sorted(item for item in root.rglob("*") if item.is_file()):
            info = zipfile.ZipInfo(source.relative_to(root).as_posix(), _ZIP_TIME)
            archive.writestr(info, source.read_bytes(), zipfile.ZIP_DEFLATED)


def inside(root: Path, *names: str) -> Path:
    """Join names that come from data, refusing any that would leave the folder.

    Raises:
        ValueError: a name is not plain.
    """
    for name in names:
        if name in ("", ".", "..") or PurePosixPath(name).name != name or "\\" in name:
            raise ValueError(f"{name!r} cannot be a file or folder name: expected a plain name")
    return root.joinpath(*names)


def write_json(path: Path, body: Any) -> None:
    """Write JSON without spaces; numbers that JSON does not have are refused."""
    with _written(path) as part:
        part.write_bytes(json.dumps(body, separators=(",", ":"), allow_nan=False).encode())


def write_png(path: Path, image: Image.Image) -> None:
    """Encode a picture."""
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    with _written(path) as part:
        part.write_bytes(encoded.getvalue())


def official_number(item_id: str, official_ids: Mapping[str, int] | None = None) -> int:
    """Give the number by which a JSON names a video or image: of the table, or else the id itself.

    Raises:
        ValueError: there is none.
    """
    if official_ids is not None and item_id in official_ids:
        return official_ids[item_id]
    if official_ids is not None or not item_id.isdecimal():
        raise ValueError(f"video {item_id!r} has no official number: give it in official_ids")
    return int(item_id)


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``, renamed when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
