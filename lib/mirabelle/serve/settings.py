"""Everything that can be set about the server. [the process's environment, where it is asked for]"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from mirabelle.errors import ConfigError, UserError

PREFIX = "MIRABELLE_SERVE_"
TOKENS = f"{PREFIX}TOKENS"
# Of a file of tokens; a thousand of them are no more than this.
MAX_TOKENS_BYTES = 2**20
# Shorter ones can be guessed.
MIN_TOKEN_CHARACTERS = 16


class ServeSettings(BaseModel):
    """The server's settings: each one's default and meaning, which ``mirabelle serve --explain`` prints."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 lets other machines in.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one and says which.")
    threads: int = Field(0, ge=0, description="Threads of the network, and as many that decode; 0: one for each core.")
    max_batch: int = Field(16, ge=1, le=1024, description="Pictures that go through the network together, at most.")
    window_ms: float = Field(2.0, ge=0, le=1000, description="How long a batch waits for pictures being decoded.")
    queue: int = Field(256, ge=1, description="Pictures taken in and not yet answered; above it 503 is answered.")
    deadline_seconds: float = Field(10.0, gt=0, description="From a request's whole body to its answer; then 503.")
    max_body_bytes: int = Field(32 * 2**20, ge=1, description="Of one request; more is answered with 413.")
    max_held_bytes: int = Field(256 * 2**20, ge=1, description="Of all requests' bodies at once; above it 503.")
    max_pictures: int = Field(32, ge=1, description="In one request; more is answered with 413.")
    max_header_bytes: int = Field(16 * 2**10, ge=1024, description="Of a request's head; more is answered with 431.")
    max_connections: int = Field(1024, ge=1, description="Open at once; further ones are answered with 503.")
    head_seconds: float = Field(10.0, gt=0, description="In which a request's head must come; then 408.")
    body_seconds: float = Field(30.0, gt=0, description="In which a request's body must come; then 408.")
    idle_seconds: int = Field(60, ge=1, description="How long a connection is kept that asks for nothing.")
    linger_seconds: float = Field(1.0, ge=0, description="After SIGTERM: how long new requests are still answered.")
    grace_seconds: float = Field(30.0, ge=0, description="After that: how long requests under way may take.")
    rate: float = Field(0.0, ge=0, description="Requests a second of one client, by token or address; 0: no limit.")
    burst: int = Field(20, ge=1, description="Requests that a client may have ahead of that rate.")
    tokens_file: str | None = Field(None, description="File of bearer tokens, one a line; without any all may ask.")
    trusted_proxies: str = Field("", description="Addresses whose X-Forwarded-For is believed, comma-separated.")
    watch_seconds: float = Field(5.0, gt=0, description="How often a watched current.json is looked at.")
    tokens: tuple[SecretStr, ...] = Field((), exclude=True, repr=False)


def load_settings(settings: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> ServeSettings:
    """Put the settings together: over the defaults the environment, over that what the command line says.

    Args:
        settings: ``name=value`` strings.
        environment: variables that start with ``MIRABELLE_SERVE_``; None: the process's own. Tokens may stand in
            ``MIRABELLE_SERVE_TOKENS``, comma-separated; a command line can be read by others, so that none stand there.

    Raises:
        ConfigError: with every mistake that was found.
        UserError: the file of tokens cannot be read, or a token in it is none.
    """
    environment = os.environ if environment is None else environment
    told: dict[str, object] = {
        name[len(PREFIX) :].lower(): value
        for name, value in environment.items()
        if name.startswith(PREFIX) and name != TOKENS
    }
    problems = []
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            problems.append(f"--set {setting}: write name=value")
        else:
            told[name.strip()] = value.strip()
    known = [name for name in ServeSettings.model_fields if name != "tokens"]
    for name in [name for name in told if name not in known]:
        near = get_close_matches(name, known, 1)
        problems.append(f"{name} is no setting of the server" + (f"; did you mean {near[0]}?" if near else ""))
        del told[name]
    try:
        loaded = ServeSettings.model_validate(told)
    except ValidationError as error:
        problems += [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_input=False)]
    if problems:
        raise ConfigError(*problems)
    return loaded.model_copy(update={"tokens": _tokens(loaded.tokens_file, environment.get(TOKENS, ""))})


def _tokens(file: str | None, listed: str) -> tuple[SecretStr, ...]:
    found = [token.strip() for token in listed.split(",") if token.strip()]
    if file is not None:
        try:
            with Path(file).open(encoding="ascii") as lines:
                found += [line.strip() for line in lines.read(MAX_TOKENS_BYTES).splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the tokens in {file}: {error}; give a text file with one a line") from error
        found = [token for token in found if token and not token.startswith("#")]
        if not found:
            raise UserError(f"there is no token in {file}; write one a line, or leave tokens_file out")
    if any(len(token) < MIN_TOKEN_CHARACTERS for token in found):
        raise UserError(
            f"a token has fewer than {MIN_TOKEN_CHARACTERS} characters and can be guessed; make one with"
            " python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    return tuple(SecretStr(token) for token in found)


def explain_settings() -> str:
    """Every setting with its default and meaning, one a line."""
    fields = {name: field for name, field in ServeSettings.model_fields.items() if name != "tokens"}
    width = max(map(len, fields))
    lines = [f"  {name:<{width}}  {field.description} [{field.default}]" for name, field in fields.items()]
    return "\n".join(
        [
            "Settings of the server, as --set name=value, or MIRABELLE_SERVE_NAME in the environment:",
            *lines,
            f"  {'tokens':<{width}}  In MIRABELLE_SERVE_TOKENS alone, comma-separated; beside those of tokens_file.",
        ]
    )
