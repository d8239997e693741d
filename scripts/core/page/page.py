"""A page of sections in one HTML file: whatever it needs is inside it, and nothing is fetched from elsewhere.

A section is a small Jinja2 template and what it shows:

    Section("Dose", Path(__file__).with_name("dose.html"), {"rows": rows})

    {# dose.html #}
    {% from "macros.html" import note, table %}
    {{ table(rows, left=2) }}
    {{ note("D2cc in Gy, EQD2.") }}
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scripts.core.files import write_text

TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True)
class Section:
    """One part of a page.

    Args:
        title: heading, and the entry in the page's contents.
        template: file of the part, which may import `macros.html` and `charts.html`.
        values: what it shows; every text in it is escaped.
        alarm: whether it is a warning, which stands out.
    """

    title: str
    template: Path
    values: Mapping[str, Any] = field(default_factory=dict)
    alarm: bool = False

    @property
    def anchor(self) -> str:
        """Where a link to it points."""
        return "s-" + (re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section")


@dataclass(frozen=True)
class Figure:
    """One number of the page's head.

    Args:
        name: what it is.
        value: the number as text.
        detail: below it.
        bad: whether the detail is bad news.
    """

    name: str
    value: str
    detail: str = ""
    bad: bool = False


def write_page(
    file: Path, title: str, lead: str, sections: Iterable[Section], figures: Sequence[Figure] = (), kind: str = "Report"
) -> Path:
    """Write a page.

    Args:
        file: HTML to write.
        title: of the page.
        lead: a line or two below it.
        sections: in their order.
        figures: the numbers to see first.
        kind: what page it is, before the title.

    Returns:
        The file.
    """
    # names of cases, classes and models come from outside: each is escaped
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # own files, to go into <style> and <script> as they are
    environment.globals["asset"] = asset
    parts = list(sections)
    bodies = [
        Markup(environment.from_string(part.template.read_text(encoding="utf-8")).render(part.values)) for part in parts
    ]
    values = {
        "kind": kind,
        "title": title,
        "lead": lead,
        "figures": figures,
        "sections": list(zip(parts, bodies, strict=True)),
    }
    return write_text(file, environment.get_template("page.html").render(values))


def asset(path: str | Path) -> Markup:
    """The text of a style sheet or script of this repository, which is trusted; relative paths start from the templates."""
    text = (TEMPLATES / path).read_text(encoding="utf-8")
    # would end the element that it stands in
    return Markup(re.sub(r"</(?=(script|style)\b)", r"<\\/", text, flags=re.IGNORECASE))


def embedded(path: Path, kind: str = "image/png") -> str:
    """A file as the address of an image that holds it."""
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
