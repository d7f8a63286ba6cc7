"""Settings of the server: where they come from, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirabelle.errors import ConfigError, UserError
from mirabelle.serve.settings import ServeSettings, explain_settings, load_settings

TOKEN = "0123456789abcdefgh"


def test_the_command_line_is_over_the_environment_and_that_over_the_defaults() -> None:
    environment = {"MIRABELLE_SERVE_PORT": "81", "MIRABELLE_SERVE_QUEUE": "7", "MIRABELLE_OTHER": "x"}
    loaded = load_settings(["port=82"], environment)
    assert (loaded.port, loaded.queue, loaded.host) == (82, 7, "127.0.0.1")


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as refused:
        load_settings(["prot=80", "queue=0", "burst"], {"MIRABELLE_SERVE_RATE": "often"})
    told = str(refused.value)
    assert "did you mean port" in told
    assert "queue" in told
    assert "write name=value" in told
    assert "rate" in told


def test_tokens_come_from_a_file_and_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# of the page\n{TOKEN}-a\n\n{TOKEN}-b\n")
    loaded = load_settings([f"tokens_file={file}"], {"MIRABELLE_SERVE_TOKENS": f"{TOKEN}-c, {TOKEN}-d"})
    assert {token.get_secret_value()[-1] for token in loaded.tokens} == set("abcd")
    assert TOKEN not in repr(loaded)
    assert TOKEN not in loaded.model_dump_json()


@pytest.mark.parametrize("content", ["", "# none\n", "short\n", b"\xff\xfe"])
def test_files_of_tokens_that_would_let_all_in(tmp_path: Path, content: str | bytes) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match="token"):
        load_settings([f"tokens_file={file}"], {})
    with pytest.raises(UserError, match="cannot read"):
        load_settings([f"tokens_file={tmp_path / 'none'}"], {})


def test_tokens_are_not_told_on_a_command_line() -> None:
    with pytest.raises(ConfigError, match="tokens"):
        load_settings([f"tokens={TOKEN}"], {})


def test_every_setting_is_explained() -> None:
    told = explain_settings()
    for name, field in ServeSettings.model_fields.items():
        assert name in told
        assert name == "tokens" or field.description
