"""A result for people to read: one page in a file that needs no other file, its figures, its tables."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neuro4d_lib.forecasting.provenance import RESEARCH_USE

NO_ADVICE = "This is research, not advice: simulated people say nothing certain about a real one."

_STYLE = """\
body { font: 15px/1.5 system-ui, sans-serif; color: #1d2733; background: #f4f6f8; margin: 0 }
main { max-width: 1080px; margin: 0 auto; padding: 0 20px 40px }
.banner { background: #7a2e12; color: #fff; text-align: center; padding: 8px 20px; font-weight: 600 }
section { background: #fff; border: 1px solid #dde3ea; border-radius: 8px; padding: 4px 20px 16px; margin-top: 18px }
h1 { font-size: 26px; margin: 24px 0 2px } h2 { font-size: 18px; margin: 12px 0 6px } .lead { color: #51606f; margin: 0 }
.warning { background: #fff4d6; border-left: 4px solid #d59a00; padding: 8px 12px; margin: 12px 0 0 }
img { width: 100% } .scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: 13px; width: 100% }
th { text-align: left; border-bottom: 2px solid #c5cfda; padding: 4px 8px }
td { border-bottom: 1px solid #e8edf2; padding: 4px 8px; vertical-align: top }
"""


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, a figure as PNG, and a table of its header and rows."""

    title: str
    text: str = ""
    png: bytes | None = None
    header: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()


def render_page(title: str, lead: str, sections: Iterable[Section], warnings: Iterable[str] = ()) -> str:
    """The whole page; all texts are plain, not HTML."""
    parts = [f"<p class='warning'>{html.escape(text)}</p>" for text in (NO_ADVICE, *warnings)]
    for section in sections:
        parts.append(f"<section><h2>{html.escape(section.title)}</h2>")
        if section.text:
            parts.append(f"<p>{html.escape(section.text)}</p>")
        if section.png is not None:
            data = base64.b64encode(section.png).decode("ascii")
            parts.append(f"<img alt='{html.escape(section.title)}' src='data:image/png;base64,{data}'>")
        if section.rows:
            parts.append(_table(section))
        parts.append("</section>")
    return (
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{html.escape(title)}</title><style>\n{_STYLE}</style></head>\n<body>"
        f"<div class='banner'>{html.escape(RESEARCH_USE)}</div><main><h1>{html.escape(title)}</h1>"
        f"<p class='lead'>{html.escape(lead)}</p>{''.join(parts)}</main></body></html>\n"
    )


def figure(width: float, height: float) -> Any:
    """An empty figure that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(made)
    return made


def png_of(made: Any) -> bytes:
    stream = io.BytesIO()
    made.savefig(stream, dpi=120, format="png")
    return stream.getvalue()


def _table(section: Section) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in section.header)
    rows = ("".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) for row in section.rows)
    return f"<div class='scroll'><table><tr>{head}</tr>{''.join(f'<tr>{row}</tr>' for row in rows)}</table></div>"


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns of the first row; numbers to six digits, None as nothing."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    return stream.getvalue()


def as_json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, allow_nan=False) + "\n"
