"""The report as PDF (A4), drawn from the same millimetres as the page's SVG."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from xml.sax.saxutils import escape

import numpy as np
from reportlab.lib.colors import HexColor
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)

from api.ui.drawing import Area, Box, Curve, Drawing, Lines, Shape, Text, runs

if TYPE_CHECKING:
    from api.ui.report import Report

MARGIN: Final = 15 * mm
INK, QUIET, LINE = "#16181c", "#565b63", "#c9cbc6"
#: Where Linux keeps a font for alphabets beyond Western Europe's, which a PDF's built-in fonts have no letters of.
WIDE_FONTS: Final = (
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",
    "/usr/share/fonts/TTF/DejaVuSans.ttf",
    "/usr/share/fonts/truetype/noto/NotoSans-Regular.ttf",
)


@dataclass(frozen=True)
class _Style:
    """How a shape is drawn: colours, line width and text size in millimetres."""

    stroke: str | None = None
    fill: str | None = None
    width: float = 0.2
    dash: tuple[float, ...] = ()
    size: float = 2.7
    bold: bool = False


#: The light half of static/style.css, for paper.
STYLES: Final = {
    "grid-minor": _Style(stroke="#f6d9d3", width=0.1),
    "grid-major": _Style(stroke="#e9a99f", width=0.2),
    "signal": _Style(stroke="#101114", width=0.3),
    "expected": _Style(stroke="#1459c7", width=0.3, dash=(1.2, 0.7)),
    "pulse": _Style(stroke="#101114", width=0.3),
    "r-tick": _Style(stroke=QUIET),
    "lead-name": _Style(fill=INK, size=3.2, bold=True),
    "rr": _Style(fill=QUIET),
    "clock": _Style(fill=QUIET),
    "caption": _Style(fill=QUIET),
    "small": _Style(fill=QUIET),
    "axis": _Style(fill=QUIET, size=2.5),
    "flag": _Style(fill="#9b2039"),
    "flag-score": _Style(fill="#9b2039"),
    "unusable": _Style(fill="#e4e5e7"),
    "lane": _Style(stroke=LINE),
    "lane-line": _Style(stroke=LINE, width=0.15),
    "lane-name": _Style(fill=QUIET, bold=True),
    "signal-bar": _Style(stroke="#3c3e44", width=0.15),
    "rate": _Style(stroke="#14617a", width=0.3),
    "rate-band": _Style(fill="#b9dbe4"),
    "flag-tick": _Style(fill="#9b2039"),
    "flag-bar": _Style(fill="#9b2039"),
    "unusable-bar": _Style(fill="#6d7179"),
    "unusable-lead": _Style(fill="#a9acb2"),
}


def make_pdf(report: "Report", page_word: str) -> bytes:
    """The report's pages.

    Args:
        page_word: "Page" in the reader's language.
    """
    regular, bold = _fonts(report)
    text = ParagraphStyle("text", fontName=regular, fontSize=9, leading=12, textColor=HexColor(INK))
    quiet = ParagraphStyle("quiet", parent=text, fontSize=8, leading=10, textColor=HexColor(QUIET))
    title = ParagraphStyle("title", parent=text, fontName=bold, fontSize=15, leading=19)
    heading = ParagraphStyle("heading", parent=text, fontName=bold, fontSize=10.5, leading=14, spaceBefore=8)
    story: list[Any] = [_line(report.title, title), _line(report.notice, quiet), Spacer(0, 2 * mm)]
    story.append(_side_by_side(report.tables, text, quiet, heading))
    story += [_line(report.timeline_title, heading), _Sheet(report.timeline, regular, bold)]
    story += [_line(report.episodes_title, heading), _line(report.episodes_note, quiet)]
    for episode in report.episodes:
        head = Paragraph(f"<b>{escape(episode.title)}</b> &nbsp; {escape(episode.facts)}", text)
        story.append(KeepTogether([Spacer(0, 2 * mm), head, _Sheet(episode.strip, regular, bold)]))
    for name, header, rows in report.grids:
        if rows:
            story.append(KeepTogether([_line(name, heading), _grid([header, *rows], text, quiet)]))
    buffer = io.BytesIO()
    document = BaseDocTemplate(buffer, pagesize=A4, title=report.title, author="", subject=report.notice)
    frame = Frame(MARGIN, 16 * mm, A4[0] - 2 * MARGIN, A4[1] - 30 * mm, 0, 0, 0, 0)

    def foot(canvas: Any, document: Any) -> None:
        canvas.setFont(regular, 7.5)
        canvas.setFillColor(HexColor(QUIET))
        canvas.drawString(MARGIN, 9 * mm, report.made)
        canvas.drawString(MARGIN, 6 * mm, report.notice)
        canvas.drawRightString(A4[0] - MARGIN, 9 * mm, f"{page_word} {document.page}")

    document.addPageTemplates(PageTemplate(frames=[frame], onPage=foot))
    document.build(story)
    return buffer.getvalue()


def _line(text: str, style: ParagraphStyle) -> Paragraph:
    return Paragraph(escape(text), style)


def _side_by_side(
    tables: Sequence[tuple[str, Sequence[tuple[str, str]]]],
    text: ParagraphStyle,
    quiet: ParagraphStyle,
    heading: ParagraphStyle,
) -> Table:
    columns = []
    for name, rows in tables:
        cells = [[_line(key, quiet), _line(value, text)] for key, value in rows]
        columns.append([_line(name, heading), Table(cells, colWidths=[36 * mm, 52 * mm], style=_TIGHT)])
    return Table([columns], colWidths=[90 * mm] * len(columns), style=_TIGHT, hAlign="LEFT")


_TIGHT: Final = TableStyle(
    [("LEFTPADDING", (0, 0), (-1, -1), 0), ("TOPPADDING", (0, 0), (-1, -1), 0.5),
     ("BOTTOMPADDING", (0, 0), (-1, -1), 0.5), ("VALIGN", (0, 0), (-1, -1), "TOP")]
)  # fmt: skip


def _grid(rows: Sequence[Sequence[str]], text: ParagraphStyle, quiet: ParagraphStyle) -> Table:
    cells = [[_line(cell, quiet if i == 0 else text) for cell in row] for i, row in enumerate(rows)]
    lines = TableStyle([("LINEBELOW", (0, 0), (-1, -1), 0.3, HexColor(LINE)), *_TIGHT.getCommands()])
    return Table(cells, colWidths=[180 * mm / len(rows[0])] * len(rows[0]), style=lines, repeatRows=1)


class _Sheet(Flowable):  # type: ignore[misc]  # reportlab has no types
    """A drawing on the page, to scale."""

    def __init__(self, drawing: Drawing, regular: str, bold: str) -> None:
        super().__init__()
        self.width, self.height = drawing.width * mm, drawing.height * mm
        self._drawing = drawing
        self._fonts = (regular, bold)

    def draw(self) -> None:
        canvas = self.canv
        canvas.saveState()
        canvas.setLineJoin(1)
        for shape in self._drawing.shapes:
            style = STYLES.get(shape.style)
            if style is not None:
                self._shape(canvas, shape, style)
        canvas.restoreState()

    def _shape(self, canvas: Any, shape: Shape, style: _Style) -> None:
        if style.stroke:
            canvas.setStrokeColor(HexColor(style.stroke))
            canvas.setLineWidth(style.width * mm)
            canvas.setDash([part * mm for part in style.dash])
        if style.fill:
            canvas.setFillColor(HexColor(style.fill))
        match shape:
            case Lines(ends, _):
                canvas.lines([tuple(self._at(line)) for line in ends])
            case Curve(points, _):
                for run in runs(points):
                    self._path(canvas, run, close=False)
            case Area(points, _):
                self._path(canvas, points, close=True)
            case Box():
                left, top = self._at(np.array([shape.x, shape.y + shape.height]))
                size = shape.width * mm, shape.height * mm
                canvas.rect(left, top, *size, stroke=int(bool(style.stroke)), fill=int(bool(style.fill)))
            case Text():
                canvas.setFont(self._fonts[style.bold], style.size * mm)
                x, y = self._at(np.array([shape.x, shape.y]))
                draw = {"start": canvas.drawString, "middle": canvas.drawCentredString, "end": canvas.drawRightString}
                draw[shape.anchor](x, y, shape.text)

    def _at(self, places: Any) -> list[float]:
        """Millimetres from the top left, x and y in turn, to points from the bottom left."""
        pairs = np.asarray(places, dtype=np.float64).reshape(-1, 2) * mm
        pairs[:, 1] = self.height - pairs[:, 1]
        flat: list[float] = np.round(pairs, 3).ravel().tolist()
        return flat

    def _path(self, canvas: Any, points: Any, *, close: bool) -> None:
        path = canvas.beginPath()
        places = np.array(self._at(points)).reshape(-1, 2).tolist()
        path.moveTo(*places[0])
        for place in places[1:]:
            path.lineTo(*place)
        if close:
            path.close()
        canvas.drawPath(path, stroke=int(not close), fill=int(close))


def _fonts(report: "Report") -> tuple[str, str]:
    """Names of the fonts for all of the report's text: the built-in ones wherever they have the letters."""
    words = [report.title, report.made, report.notice]
    words += [value for _, rows in report.tables for row in rows for value in row]
    words += [cell for _, header, rows in report.grids for row in (header, *rows) for cell in row]
    words += [text for episode in report.episodes for text in (episode.title, episode.facts)]
    words += [shape.text for episode in report.episodes for shape in episode.strip.shapes if isinstance(shape, Text)]
    if _is_western("".join(words)):
        return "Helvetica", "Helvetica-Bold"
    wide = next((path for path in WIDE_FONTS if Path(path).is_file()), None)
    if wide is None:
        return "Helvetica", "Helvetica-Bold"  # letters it lacks are printed as boxes; the HTML report has them
    pdfmetrics.registerFont(TTFont("Wide", wide))
    return "Wide", "Wide"


def _is_western(text: str) -> bool:
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True
