"""Classes that files know by name: the library's, and the user's own."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Self

__all__ = ["Registered", "name_in_files"]


def name_in_files(cls: type) -> str:
    """Name of a class in files: `RBM` for the library's, `own:RBM` for one that is defined elsewhere."""
    library = __name__.partition(".")[0]
    return cls.__name__ if cls.__module__.partition(".")[0] == library else f"own:{cls.__name__}"


class Registered:
    """Base of frozen dataclasses of options that are written to files as JSON and made again from it.

    Each subclass registers when it is defined; one of the user's own that is defined again (in a notebook's cell) takes
    the place of the first, and one that has the name of a class of the library stands beside it.
    """

    _known: ClassVar[dict[str, type[Any]]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Registered._known[name_in_files(cls)] = cls

    def to_json(self) -> dict[str, Any]:
        """Name of the class and its options."""
        return {"kind": name_in_files(type(self)), **dataclasses.asdict(self)}  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> Self:
        """Inverse of `to_json`.

        Raises:
            ValueError: for the name of no subclass, or options that it does not take.
        """
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k != "kind"}
        kind = Registered._known.get(config.get("kind", ""))
        if kind is None or not issubclass(kind, cls):
            known = sorted(k for k, c in Registered._known.items() if issubclass(c, cls) and c is not cls)
            raise ValueError(
                f"expected a {cls.__name__} among {known}, got {config.get('kind')!r}: "
                "a class of your own is known once the module that defines it is imported"
            )
        try:
            return kind(**options)
        except TypeError as error:
            raise ValueError(f"expected options of {kind.__name__}, got {options}: {error}") from None
