"""What prints as a table and goes over to others as one: text, markdown, HTML, data frame, CSV file."""

from __future__ import annotations

import csv
import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from deepgen_ppl.log_p.table import ASCII, WIDTH, Table

__all__ = ["Tabular"]


class Tabular(ABC):
    """Rows of numbers, and the table that shows them; text, markdown and HTML have the same cells."""

    columns: ClassVar[tuple[str, ...]]
    """Names of all columns, in the order of data frame and file."""

    @abstractmethod
    def table(self) -> Table:
        """What is shown."""

    @abstractmethod
    def records(self) -> list[dict[str, Any]]:
        """One dict a row with all columns, of which the table shows those that a reader needs first."""

    def to_text(self, width: int = WIDTH, *, ascii: bool = False) -> str:
        """Lines for a terminal, as `print` shows them.

        Args:
            width: columns of a line; names are folded, and then columns left out, until the lines fit.
            ascii: whether to write <=, >=, ~ for the signs that not every terminal has.

        Raises:
            ValueError: for fewer than 40 columns.
        """
        return (self.table().ascii() if ascii else self.table()).text(width)

    def to_markdown(self) -> str:
        """A table of GitHub's markdown."""
        return self.table().markdown()

    def to_dataframe(self) -> Any:
        """A data frame of pandas with all columns, numbers as numbers; the CSV file has the same.

        Raises:
            ImportError: without pandas.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError("expected pandas for a data frame: pip install pandas") from error
        return pandas.DataFrame(self.records(), columns=list(self.columns))

    def to_csv(self, path: str | Path, *, about: Mapping[str, Any] | None = None) -> None:
        """Write the rows to a CSV file, in UTF-8.

        Args:
            path: the file.
            about: columns more, of one value each: what the rows are of.
        """
        more = dict(about or {})
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, (*self.columns, *more))
            writer.writeheader()
            writer.writerows({**row, **more} for row in self.records())

    def _repr_html_(self) -> str:
        """What notebooks show."""
        return self.table().html()

    def __repr__(self) -> str:
        return self.to_text(ascii=not _has_signs())


def _has_signs() -> bool:
    """Whether standard output can say the signs."""
    try:
        "".join(map(chr, ASCII)).encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
