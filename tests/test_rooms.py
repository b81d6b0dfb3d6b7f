"""The order of the rooms: an arrow goes only downwards, and rooms on one line do not import each other."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "deepgen_ppl"

LINES = """
numpyro pyro cli estimators
diagnostics model_files
hosts
log_p
methods
training
objectives
kernels
log_z
bayes
directed
undirected flows
energies
units
engine sites typing progress array_files datasets options registry model state state_files data
"""
"""From the top of the house to its ground floor."""

FLOORS = [line.split() for line in LINES.strip().splitlines()[::-1]]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
GROUND = set(FLOORS[0])


def imports(tree):
    """(line, room) of everything of ours that a file imports, at the top or inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith("deepgen_ppl"):
            parts = node.module.split(".")
            names = [parts[1]] if len(parts) > 1 else [name.name for name in node.names]
            yield from ((node.lineno, name) for name in names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, n.name.split(".")[1]) for n in node.names if n.name.startswith("deepgen_ppl."))


def wrong_arrows(text, room):
    """Imports that go up from a room, or to another room on its own line."""
    for line, other in imports(ast.parse(text)):
        if other in ("__version__", "face") or other == room or (room in GROUND and other in GROUND):
            continue
        if FLOOR[other] >= FLOOR[room]:
            yield f"line {line} of {room} imports {other}"


def files():
    """(room, text) of every file but the package's own, which imports nothing of ours."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path != PACKAGE / "__init__.py":
            yield path.relative_to(PACKAGE).parts[0].removesuffix(".py"), path.read_text(encoding="utf-8")


def test_arrows_go_down():
    found = [arrow for room, text in files() for arrow in wrong_arrows(text, room)]
    assert not found, found


def test_no_import_for_annotations_alone():
    """What is imported only while types are checked hides a circle."""
    assert not [room for room, text in files() if "TYPE_CHECKING" in text]


FAULTS = {
    "up": ("units", "from deepgen_ppl.energies import path"),
    "up and lazy": ("energies", "def f():\n    from deepgen_ppl.log_z.ais import ais"),
    "beside": ("undirected", "import deepgen_ppl.flows.bijection"),
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_an_arrow_that_does_not_go_down_is_seen(fault):
    room, text = FAULTS[fault]
    assert list(wrong_arrows(text, room))
