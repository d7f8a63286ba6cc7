"""A network made ready to send: built, converted, and kept so that the next run starts at once. [cache folder]

Driver only. Wires ``backbones``, ``weights`` and ``engines``; a network that is in the cache is sent without importing
Keras or its backend at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from mirabelle.config import Config
from mirabelle.decode import PREPROCESSING_VERSION, DecodeOptions
from mirabelle.errors import OutputError, PreflightError
from mirabelle.network import backbones, weights
from mirabelle.network.embedding import NORMALISATIONS, Embedding, EngineName, Normalisation, Precision
from mirabelle.network.engines import CONVERSION_VERSION, Files, convert, native_precisions
from mirabelle.network.heads import head_of
from mirabelle.network.home import ensure_home

FACTS = "network.json"


@dataclass(frozen=True)
class Network:
    """All that a worker needs to embed: a small description, and the bytes to broadcast.

    Attributes:
        embedding: what its features are.
        engine: what runs it.
        normalisation: done by the engine, on uint8 pixels.
        decode: choices for pictures on their way in.
        files: the converted network, by file name.
        was_cached: whether the cache had it.
    """

    embedding: Embedding
    engine: EngineName
    normalisation: Normalisation
    decode: DecodeOptions
    files: Files
    was_cached: bool


def decode_options(config: Config, precision: Precision = "float32") -> DecodeOptions:
    """The decoder's options out of a configuration.

    Args:
        config: its ``decode`` part counts.
        precision: settles ``decode.exact``, where it is auto: bf16 is for features within a cosine of 0.999, float32
            for equality with Keras.
    """
    exact = config.decode.exact == "always" or (config.decode.exact == "auto" and precision == "float32")
    return DecodeOptions(**{**dict(config.decode), "exact": exact})


def prepare_network(config: Config, precision: Precision | Literal["auto"] = "auto") -> Network:
    """The configured network, from the cache or made and put there.

    Args:
        config: its ``backbone``, ``engine``, ``decode`` and ``cache`` parts count.
        precision: of the arithmetic, ``float32`` or ``bf16``; ``auto``: as the configuration says, and where that
            leaves it open, what this machine's CPU has natively.

    Raises:
        ConfigError, WeightsError: as ``backbones`` and ``weights`` say.
        PreflightError: Keras is needed and is not installed, or there is no such precision.
    """
    if precision == "auto":
        precision = precision_here(config)
    elif precision not in get_args(Precision):
        raise PreflightError(f"there is no precision {precision!r}; take auto, {' or '.join(get_args(Precision))}")
    row = backbones.find(config.backbone.name)
    folder = cached_folder(config, precision)
    was_cached = is_cached(config, precision)
    if not was_cached:
        _build(config, _recipe(config, precision), folder)
    facts, files = _read(folder)
    key = facts["made_from"]
    embedding = Embedding(
        backbone=row.name,
        weights=weights.parse(config.backbone.weights).name,
        weights_digest=facts["weights_digest"],
        input_px=key["input_px"],
        layer=key["layer"],
        pooling=config.backbone.pooling,
        preprocessing=preprocessing(config, row.normalisation, precision),
        precision=precision,
        width=facts["width"],
    )
    normalisation = NORMALISATIONS[row.normalisation]
    return Network(embedding, config.engine.name, normalisation, decode_options(config, precision), files, was_cached)


def shape_of(config: Config) -> tuple[int, str]:
    """The side of the square that the network sees, and the layer whose output is taken.

    Where the configuration leaves them open they are the network's own, and of one that was taught those that it was
    taught with.
    """
    row = backbones.find(config.backbone.name)
    head = head_of(weights.parse(config.backbone.weights).path)
    input_px, layer = (head.input_px, head.layer) if head else (row.input_px, row.layer)
    return config.backbone.input_px or input_px, config.backbone.layer or layer


def precision_on(config: Config, native: Sequence[Precision]) -> Precision:
    """The configured precision; ``auto`` is bf16 where the CPU has it natively.

    Args:
        native: what all CPUs that count have.
    """
    if config.engine.precision != "auto":
        return config.engine.precision
    # Keras computes bf16 on CPUs slower than float32.
    return "bf16" if "bf16" in native and config.engine.name == "openvino" else "float32"


def precision_here(config: Config) -> Precision:
    """The precision, if the workers' CPUs are like this machine's."""
    # Where it is told, the engine need not be there to be asked.
    return precision_on(config, native_precisions() if config.engine.precision == "auto" else ())


def is_cached(config: Config, precision: Precision) -> bool:
    """Whether the configured network is in the cache, ready to send."""
    # Unlike ``Path.is_file`` this is False, and no error, where another user's cache may not be looked into.
    return os.access(cached_folder(config, precision) / FACTS, os.R_OK)


def cached_folder(config: Config, precision: Precision) -> Path:
    """Where the cache has the configured network, or will have it.

    Where there is no Keras to build one, a network that was converted elsewhere counts, by whatever versions.

    Raises:
        ConfigError, WeightsError: as ``backbones`` and ``weights`` say.
    """
    networks = cache_folder(config) / "networks"
    if find_spec("keras") is None:
        # By way of JSON, which has no tuples.
        choices = json.loads(json.dumps(_choices(config, precision)))
        name = weights.parse(config.backbone.weights).name
        for path in sorted(networks.glob(f"*/{FACTS}")):
            try:
                facts = json.loads(path.read_text(encoding="utf-8"))
            except OSError:
                continue  # another user's alone
            # A file of weights need not have come along; its name says which it was.
            if facts.get("weights") == name and choices.items() <= facts["made_from"].items():
                return path.parent
    recipe = json.dumps(_recipe(config, precision), sort_keys=True)
    return networks / hashlib.sha256(recipe.encode()).hexdigest()[:16]


def check_weights(config: Config) -> None:
    """Raise ``WeightsError`` or ``ConfigError`` for weights that cannot be: a word unknown, a file not there."""
    cached_folder(config, "float32")


def _read(folder: Path) -> tuple[dict[str, Any], Files]:
    """A cached network: its facts, and its files by name."""
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text(encoding="utf-8"))
        return facts, {name: (folder / name).read_bytes() for name in facts["files"]}
    except OSError as error:
        raise OutputError(
            f"cannot read {folder} in the cache: {error.strerror}; let it be read, or set cache to another folder"
        ) from error


def _recipe(config: Config, precision: Precision) -> dict[str, Any]:
    """All that decides what the converted network is."""
    return {
        **_choices(config, precision),
        "weights": weights.parse(config.backbone.weights).identity(),
        "versions": [_version("keras"), _version(config.engine.name)],
    }


def _choices(config: Config, precision: Precision) -> dict[str, Any]:
    """What decides it beside the weights and the versions of libraries."""
    row = backbones.find(config.backbone.name)
    input_px, layer = shape_of(config)
    backbones.check(row, input_px)
    return {
        "row": asdict(row),
        "input_px": input_px,
        "layer": layer,
        "pooling": config.backbone.pooling,
        "engine": config.engine.name,
        # OpenVINO takes the precision when it compiles; a Keras model carries it in its layers.
        "policy": precision if config.engine.name == "keras" else "any",
        "conversion": CONVERSION_VERSION,
    }


def _build(config: Config, key: dict[str, Any], folder: Path) -> None:
    """Build and convert the network, and put it into the cache whole or not at all."""
    try:
        keras = backbones.import_keras()
    except ImportError as error:
        raise PreflightError(
            f"building a network needs Keras on the driver, and it cannot be imported ({error}); install"
            " mirabelle[keras], or set cache to one that `mirabelle pack` made of this network"
        ) from error
    row = backbones.find(config.backbone.name)
    policy = "mixed_bfloat16" if key["policy"] == "bf16" else "float32"
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = weights.load(row, weights.parse(config.backbone.weights), key["input_px"], cache_folder(config))
        if key["policy"] == "any":
            # The converter knows no layers in bfloat16.
            model = backbones.in_float32(model)
        headless = backbones.headless(model, key["layer"], key["pooling"])
    finally:
        keras.config.set_dtype_policy(before)
    check_room(Path(tempfile.gettempdir()), 4 * headless.count_params(), "converting the network", "TMPDIR")
    files = convert(key["engine"], headless, NORMALISATIONS[row.normalisation])
    facts = {
        "weights": weights.parse(config.backbone.weights).name,
        "weights_digest": backbones.weights_digest(headless),
        "width": int(headless.output.shape[-1]),
        "files": sorted(files),
        "made_from": key,
    }
    # Not by mkdtemp, whose folders are their maker's alone: the cache of one user may serve another.
    beside = folder.parent / f".partial-{uuid.uuid4().hex}"
    try:
        beside.mkdir(parents=True)
        for name, content in files.items():
            (beside / name).write_bytes(content)
        (beside / FACTS).write_text(json.dumps(facts, indent=2), encoding="utf-8")
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise OutputError(
            f"cannot write to the cache {folder.parent}: {error.strerror}; set cache to another"
        ) from error
    try:
        beside.rename(folder)
    except OSError:
        # Another run made the same network meanwhile; its files are as good.
        shutil.rmtree(beside, ignore_errors=True)


def check_room(folder: Path, needed_bytes: int, doing: str, setting: str) -> None:
    """Raise ``OutputError`` if a network does not fit into a temporary folder; libraries say only that writing failed.

    Args:
        folder: where it is to be written.
        needed_bytes: there.
        doing: what is done there, as the sentence says it.
        setting: which names another folder.
    """
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise OutputError(
            f"the disk of {folder} has {free / 2**20:.0f} MiB left, and {doing} takes {needed_bytes / 2**20:.0f} MiB"
            f" there; make room, or set {setting} to a folder on a larger one"
        )


def cache_folder(config: Config) -> Path:
    """The configured cache, made if it is not there.

    Raises:
        OutputError: it cannot be made.
    """
    ensure_home()
    try:
        folder = Path(config.cache).expanduser()
    except RuntimeError as error:
        raise OutputError(f"there is no home folder for the cache {config.cache}; set cache to another") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the cache folder {folder}: {error.strerror}; set cache to another") from error
    return folder


def preprocessing(config: Config, normalisation: str, precision: Precision) -> str:
    """All that is done to pixels before the network, as it stands in the fingerprint."""
    options = decode_options(config, precision)
    ground = "#" + bytes(options.ground).hex()
    orient = "exif" if options.orient else "as-stored"
    resize = "bilinear" if options.exact else "scaled-dct bilinear-simd"
    return f"v{PREPROCESSING_VERSION} {resize} {orient} on {ground}, {normalisation}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
