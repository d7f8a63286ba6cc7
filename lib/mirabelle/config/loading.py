"""How a run's configuration is put together. [the one YAML file it is given, environment; driver only]

What is taken for granted, YAML file, environment (``MIRABELLE_IMAGES__ROOT``), ``--set images.root=...``: later wins.
Validated wholly, with every mistake reported at once, before anything heavy starts.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mirabelle.config.models import SECTIONS, Config, is_secret, keys, yaml_inline
from mirabelle.errors import ConfigError

ENVIRONMENT_PREFIX = "MIRABELLE_"


def load(
    file: str | Path | None,
    settings: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    content: bytes | None = None,
    defaults: Mapping[str, str] | None = None,
) -> Config:
    """Put a configuration together and validate it.

    Args:
        file: YAML, or None for defaults alone.
        settings: ``key=value`` strings, the values in YAML (``reduce.components=19``).
        environment: variables that start with ``MIRABELLE_``; default: the process's own.
        content: of the file, where it is not on this machine's disk and was read already.
        defaults: dotted keys and their texts, of what is given nowhere else.

    Raises:
        ConfigError: with every mistake that was found.
    """
    environment = os.environ if environment is None else environment
    problems: list[str] = []
    merged = _read_yaml(file, content) if file is not None else {}
    for name, text in sorted(environment.items()):
        if name.startswith(ENVIRONMENT_PREFIX):
            key = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            _put(merged, key, text, f"environment variable {name}", problems)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            problems.append(f"--set {setting}: write it as key=value, for instance --set reduce.components=19")
        else:
            # The value may be a secret: name the key alone.
            _put(merged, key.strip(), text, f"--set {key.strip()}", problems)
    for key, text in (defaults or {}).items():
        if not _has(merged, key):
            _put(merged, key, text, f"default of {key}", problems)
    images = merged.setdefault("images", {})
    needs_root = "images.root" not in (defaults or {})
    if needs_root and isinstance(images, dict) and not images.get("root") and not images.get("manifest"):
        problems.append(
            "images.root is not set; put it into the file, or give --set images.root=..., or images.manifest instead"
        )
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(*problems, *_sentences(error)) from None
    if problems:
        raise ConfigError(*problems)
    return config


def _read_yaml(path: str | Path, content: bytes | None) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load((Path(path).read_bytes() if content is None else content).decode())
    except OSError as error:
        raise ConfigError(
            f"cannot read the configuration {path}: {error.strerror}; give another with --config"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} is not YAML: {reason}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{path} should hold keys such as `images:` and `output:`, not a {type(loaded).__name__}")
    tree: dict[str, Any] = {}
    for key, value in loaded.items():
        *sections, last = str(key).split(".")
        below = tree
        for section in sections:
            # `images.root: x` at the top means what it says.
            below = below.setdefault(section, {})
        # A section whose every line is commented out is empty, not nothing.
        below[last] = {} if value is None and last in SECTIONS else value
    return tree


def _has(tree: dict[str, Any], key: str) -> bool:
    """Whether a dotted key is there."""
    section, _, last = key.rpartition(".")
    below = tree.get(section, {}) if section else tree
    # What is no section is a mistake, which is told of when all is validated.
    return not isinstance(below, dict) or last in below


def _put(tree: dict[str, Any], key: str, text: str, origin: str, problems: list[str]) -> None:
    """Set a dotted key to the YAML value of ``text``, changing ``tree``."""
    kind = "str" if key.startswith("spark.") else next((kind for name, kind, *_ in keys() if name == key), "")
    value: Any
    if text[:1] not in ("'", '"') and ((kind == "str" and text != "null") or (kind == "colour" and text[:1] == "#")):
        # As typed: a template such as {label}/{name} would be a mapping in YAML, and #ffffff a comment.
        value = text
    else:
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            if not kind.startswith("tuple[str"):
                problems.append(f"{origin}: the value is not YAML; put quotes round it")
                return
            # A single pattern such as *.jpg, which YAML takes for an alias.
            value = text
    *sections, last = key.split(".")
    for section in sections:
        below = tree.setdefault(section, {})
        if not isinstance(below, dict):
            below = tree[section] = {}
        tree = below
    tree[last] = value


def _sentences(error: ValidationError) -> list[str]:
    """pydantic's findings in our words, one a mistake; an unknown key names the nearest one."""
    known = [name for name, *_ in keys()]
    sections = sorted({name.split(".")[0] for name in known})
    sentences = []
    for finding in error.errors(include_url=False):
        key = ".".join(str(part) for part in finding["loc"])
        kind = finding["type"]
        if kind == "extra_forbidden":
            candidates = known if "." in key else [*sections, *known]
            nearest = difflib.get_close_matches(key, candidates, n=1, cutoff=0.5)
            near = f"; did you mean {nearest[0]}?" if nearest else "; `mirabelle config --explain` lists every key"
            sentences.append(f"unknown key {key}{near}")
        elif kind == "missing":
            inside = [k for k in known if k.startswith(f"{key}.")]
            wanted = "images.root" if inside else key
            sentences.append(f"{wanted} is not set; put it into the file, or give --set {wanted}=...")
        else:
            shown = "***" if is_secret(key) else yaml_inline(finding["input"])[:80]
            reason = finding["msg"].removeprefix("Value error, ")
            sentences.append(f"{key}: {reason[0].lower()}{reason[1:]} (it is {shown})")
    return sentences
