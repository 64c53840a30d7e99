"""Render HTML pages that need no network: style and pictures are inside."""

from pathlib import Path
from typing import Any

import jinja2

from jobs.report import Media
from univs.draw import Frame, to_jpeg, to_png


def render_page(template: str, **values: Any) -> str:
    """Fill a template of ``jobs/templates``; what is not given is an error."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template(template).render(**values)


def photograph(picture: Frame, caption: str = "") -> Media:
    """Embed a picture small, with the losses of JPEG."""
    return Media(caption=caption, mime="image/jpeg", content=to_jpeg(picture))


def exact_picture(picture: Frame, caption: str = "") -> Media:
    """Embed a picture pixel by pixel."""
    return Media(caption=caption, mime="image/png", content=to_png(picture))


def plot(content: bytes, caption: str) -> Media:
    """Embed an SVG plot."""
    return Media(caption=caption, mime="image/svg+xml", content=content)
