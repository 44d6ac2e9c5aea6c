"""`bench models` fails where a policy takes more memory than plain."""

import argparse

import pytest
from rich.console import Console

from bench import models, record

OPTIONS = argparse.Namespace(only=["mlp"], apis=["linen"], h100=False)


@pytest.fixture(autouse=True)
def build_directory(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "BUILD", tmp_path)


def _pretend(monkeypatch, exact_bytes):
    sizes = {"plain": 100, "exact": exact_bytes, "precise": 50, "balanced": 40}
    monkeypatch.setattr(models, "measure", lambda *_, **__: sizes)


def test_more_than_plain_is_an_error(monkeypatch):
    _pretend(monkeypatch, 101)
    console = Console(record=True)
    with pytest.raises(SystemExit) as stopped:
        models.run(OPTIONS, console)
    assert stopped.value.code == 1
    assert "more than plain: mlp" in console.export_text()


def test_as_much_as_plain_is_not(monkeypatch):
    _pretend(monkeypatch, 100)
    models.run(OPTIONS, Console())


def test_all_ways_are_compiled():
    sizes = models.measure("mlp", "linen", h100=False)
    assert [*sizes] == ["plain", "exact", "precise", "balanced"]
    assert sizes["precise"] < sizes["plain"]
