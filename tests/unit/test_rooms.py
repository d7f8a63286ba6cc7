"""The layout: how many places there are, and that each says what it is for."""

import ast
from pathlib import Path

import mirabelle

ROOT = Path(mirabelle.__file__).parent
ROOMS = sorted(path.parent for path in ROOT.glob("*/__init__.py"))


# What the pipeline's twenty places grow by, each a task of its own: what a cluster is sent, photographs from the web,
# what images are before any network sees them, networks that are taught, what serving needs, the server.
BESIDE = {"bundle", "cluster", "crawl", "exploration", "finetune", "serve"}


def test_there_are_at_most_twenty_places_and_the_rooms_beside_them() -> None:
    places = [*ROOMS, *(path for path in ROOT.glob("*.py") if path.name != "__init__.py")]
    counted = [path.name for path in places if path.name not in BESIDE]
    assert len(counted) <= 20, counted


def test_every_room_says_what_it_is_for_what_it_touches_and_where_it_runs() -> None:
    for room in ROOMS:
        told = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
        assert len(told.split()) >= 15, room.name
        assert "river" in told or "xecutor" in told, f"{room.name}: where does it run?"
        assert "ouch" in told, f"{room.name}: what may it touch?"
