"""Tables of words and numbers, laid out once for all forms: text as wide as there is room, markdown and HTML.

Where a line is too long, words are folded, and then numbers between their pieces; what then is still too wide leaves
column by column, in the order that the columns say.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from deepgen_ppl.log_p.cells import Cell, folded, text_width, words

__all__ = ["ASCII", "LEAST", "WIDTH", "Column", "Table"]

WIDTH = 80
"""Columns of a printed line."""

LEAST = 40
"""Columns below which no table is laid out."""

FOLD = 8
"""Columns to which a column of words is narrowed at most."""

ASCII = str.maketrans({"≥": ">=", "≤": "<=", "≈": "~", "±": "+-"})
"""The signs where the terminal has no others."""

MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_[]|~$"} | {"&": "&amp;", "<": "&lt;", ">": "&gt;"})


@dataclass(frozen=True)
class Column:
    """One column.

    Args:
        head: its heading.
        cells: one a row.
        number: whether it stands to the right, and its pieces are never cut.
        leaves: its turn to leave where there is no room, the highest first; 0 where it stays.
    """

    head: Cell
    cells: tuple[Cell, ...]
    number: bool = False
    leaves: int = 0

    @property
    def wide(self) -> int:
        """Its width on one line."""
        return max(text_width(" ".join(cell)) for cell in (self.head, *self.cells))

    @property
    def narrow(self) -> int:
        """The least width that it can have."""
        longest = max(text_width(piece) for cell in (self.head, *self.cells) for piece in cell)
        return longest if self.number else min(longest, FOLD)


@dataclass(frozen=True)
class Table:
    """A table and what is said of it.

    Args:
        title: what the numbers are.
        columns: with as many cells each.
        notes: lines below.
    """

    title: str
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()

    def rows(self) -> list[tuple[str, ...]]:
        """The rows, a text for each cell."""
        return [tuple(" ".join(cell) for cell in row) for row in zip(*(c.cells for c in self.columns), strict=True)]

    def ascii(self) -> Table:
        """The table without signs that not every terminal has."""
        columns = (replace(c, head=_plain(c.head), cells=tuple(_plain(cell) for cell in c.cells)) for c in self.columns)
        notes = tuple(note.translate(ASCII) for note in self.notes)
        return Table(self.title.translate(ASCII), tuple(columns), notes)

    def fitted(self, width: int, *, gap: int = 2, edge: int = 0) -> list[tuple[Column, int]]:
        """The columns that fit, each with its width.

        Args:
            width: of the whole.
            gap: between two columns.
            edge: at both ends together.
        """
        columns = list(self.columns)
        while True:
            room = width - edge - gap * (len(columns) - 1)
            widths = _widths(columns, room)
            last = max(columns, key=lambda c: c.leaves)
            if sum(widths) <= room or not last.leaves:
                return list(zip(columns, widths, strict=True))
            columns.remove(last)

    def left_out(self, fitted: Sequence[tuple[Column, int]]) -> list[str]:
        """What is said of the columns that did not fit; nothing where all did."""
        names = [" ".join(c.head) for c in self.columns if not any(c is shown for shown, _ in fitted)]
        return [f"left out, for want of room: {', '.join(names)}"] if names else []

    def text(self, width: int = WIDTH) -> str:
        """Lines of at most `width` columns.

        Raises:
            ValueError: for fewer than 40 columns.
        """
        if width < LEAST:
            raise ValueError(f"expected a width of at least {LEAST} columns, got {width}")
        fitted = self.fitted(width)
        lines = [*folded(words(self.title), width), *_rows(fitted)]
        for note in (*self.notes, *self.left_out(fitted)):
            first, *rest = folded(words(note), width - 2)
            lines += [first, *(f"  {line}" for line in rest)]
        return "\n".join(lines)

    def markdown(self) -> str:
        """A table of GitHub's markdown, and the notes as a list."""
        rows = [_markdown_row(cells) for cells in self._joined()]
        rows.insert(1, "|".join(["", *("--:" if c.number else "---" for c in self.columns), ""]))
        title, *notes = (" ".join(words(line)).translate(MARKDOWN) for line in (self.title, *self.notes))
        return "\n".join([title, "", *rows, *([""] if notes else []), *(f"- {note}" for note in notes)])

    def html(self) -> str:
        """A `<table>`, and the notes as a list."""
        sides = ["right" if c.number else "left" for c in self.columns]
        head, *body = (_html_row("td" if n else "th", row, sides) for n, row in enumerate(self._joined()))
        title, *notes = (html.escape(" ".join(words(line))) for line in (self.title, *self.notes))
        below = f"<ul>{''.join(f'<li>{note}</li>' for note in notes)}</ul>" if notes else ""
        top = f"<table><caption>{title}</caption><thead>{head}</thead>"
        return f"{top}<tbody>{''.join(body)}</tbody></table>{below}"

    def _joined(self) -> Iterator[tuple[str, ...]]:
        yield tuple(" ".join(column.head) for column in self.columns)
        yield from self.rows()


def _plain(cell: Cell) -> Cell:
    return tuple(piece.translate(ASCII) for piece in cell)


def _widths(columns: Sequence[Column], room: int) -> list[int]:
    """Widths that add up to the room where they can: words give way first, then numbers, the widest always."""
    widths, least = [c.wide for c in columns], [c.narrow for c in columns]
    for numbers in (False, True):
        while sum(widths) > room:
            free = [i for i, c in enumerate(columns) if c.number is numbers and widths[i] > least[i]]
            if not free:
                break
            widths[max(free, key=lambda i: widths[i])] -= 1
    return widths


def _rows(fitted: list[tuple[Column, int]]) -> Iterator[str]:
    """Lines of the heading and of the rows."""
    blocks = [[folded(cell, width) for cell in (column.head, *column.cells)] for column, width in fitted]
    for row in zip(*blocks, strict=True):
        for line in itertools.zip_longest(*row, fillvalue=""):
            cells = []
            for text, (column, width) in zip(line, fitted, strict=True):
                space = " " * (width - text_width(text))
                cells.append(space + text if column.number else text + space)
            yield "  ".join(cells).rstrip()


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.translate(MARKDOWN) for cell in cells)} |"


def _html_row(tag: str, cells: Sequence[str], sides: Sequence[str]) -> str:
    made = (f'<{tag} style="text-align: {s}">{html.escape(c)}</{tag}>' for s, c in zip(sides, cells, strict=True))
    return f"<tr>{''.join(made)}</tr>"
