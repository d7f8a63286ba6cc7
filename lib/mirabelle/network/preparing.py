"""A network made ready to send: built, converted, and kept so that the next run starts at once. [cache folder]

Driver only. Wires ``backbones``, ``weights`` and ``engines``; a network that is in the cache is sent without importing
Keras or its backend at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from mirabelle.config import Config
from mirabelle.config.stores import store_of
from mirabelle.decode import PREPROCESSING_VERSION, DecodeOptions
from mirabelle.errors import PreflightError
from mirabelle.network import backbones, int8, weights
from mirabelle.network.cached import FACTS, cache_folder, check_room, find_made, put_into_cache, read_cached
from mirabelle.network.embedding import NORMALISATIONS, Embedding, EngineName, Normalisation, Precision
from mirabelle.network.engines import CONVERSION_VERSION, Files, convert, native_precisions
from mirabelle.network.heads import head_of
from mirabelle.storage import absolute


@dataclass(frozen=True)
class Network:
    """All that a worker needs to embed: a small description, and the bytes to broadcast.

    Attributes:
        embedding: what its features are.
        engine: what runs it.
        normalisation: done by the engine, on uint8 pixels.
        decode: choices for pictures on their way in.
        files: the converted network, by file name.
        was_cached: whether the cache had it, or the output.
        facts: what stands in its ``network.json``.
    """

    embedding: Embedding
    engine: EngineName
    normalisation: Normalisation
    decode: DecodeOptions
    files: Files
    was_cached: bool
    facts: Mapping[str, Any] = field(default_factory=dict)


def decode_options(config: Config, precision: Precision = "float32") -> DecodeOptions:
    """The decoder's options out of a configuration.

    Args:
        config: its ``decode`` part counts.
        precision: settles ``decode.exact``, where it is auto: bf16 is for features within a cosine of 0.999, float32
            for equality with Keras.
    """
    exact = config.decode.exact == "always" or (config.decode.exact == "auto" and precision == "float32")
    return DecodeOptions(**{**dict(config.decode), "exact": exact})


def prepare_network(
    config: Config, precision: Precision | Literal["auto"] = "auto", draw: int8.Draw | None = None
) -> Network:
    """The configured network, from the cache or made and put there.

    Args:
        config: its ``backbone``, ``engine``, ``decode`` and ``cache`` parts count, and for int8 its ``output``.
        precision: of the arithmetic, ``float32``, ``bf16`` or ``int8``; ``auto``: as the configuration says, and where
            that leaves it open, what this machine's CPU has natively.
        draw: gives the pictures that int8 is quantised on, where neither the output nor the cache has such a network.

    Raises:
        ConfigError, WeightsError: as ``backbones`` and ``weights`` say.
        PreflightError: Keras or NNCF is needed and is not installed, or there is no such precision.
        OutputError: the network cannot be read or kept where it should be.
    """
    if precision == "auto":
        precision = precision_here(config)
    elif precision not in get_args(Precision):
        raise PreflightError(f"there is no precision {precision!r}; take auto, {' or '.join(get_args(Precision))}")
    row = backbones.find(config.backbone.name)
    if precision == "int8":
        made = _quantised(config, draw)
        facts, files, was_cached = made.facts, made.files, made.was_there
    else:
        was_cached = is_cached(config, precision)
        facts, files = _plain(config, precision)
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
        calibration=facts.get("calibration", ""),
    )
    normalisation, options = NORMALISATIONS[row.normalisation], decode_options(config, precision)
    return Network(embedding, config.engine.name, normalisation, options, files, was_cached, facts)


def keep_network(config: Config, network: Network) -> None:
    """Have the output keep a network that no other machine could make again to the bit: one in int8.

    Raises:
        OutputError: it cannot be written.
    """
    if network.embedding.precision == "int8":
        output = absolute(config.output)
        int8.keep(store_of(config, output), output, dict(network.facts), network.files)


def _plain(config: Config, precision: Precision) -> tuple[dict[str, Any], Files]:
    """The facts and files of the network as it is converted, whatever is done with it then."""
    folder = cached_folder(config, precision)
    if not is_cached(config, precision):
        _build(config, _recipe(config, precision), folder)
    return read_cached(folder)


def _quantised(config: Config, draw: int8.Draw | None) -> int8.Made:
    """The network in int8: the output's own, else out of the cache or made."""
    choices = quantised_choices(config)
    if kept := _kept(config, choices):
        return kept
    source = weights.parse(config.backbone.weights)
    recipe = {
        "choices": choices,
        "weights": source.identity(),
        "versions": [_version("keras"), _version("openvino"), _version("nncf")],
    }
    return int8.make(cache_folder(config) / "int8", recipe, source.name, lambda: _plain(config, "float32"), draw)


def _kept(config: Config, choices: dict[str, Any]) -> int8.Made | None:
    source, output = weights.parse(config.backbone.weights), absolute(config.output)
    made = int8.kept_in(store_of(config, output), output, choices, source.name)
    # Files of one name may hold other weights.
    if made and source.path and made.facts["weights_digest"] != _plain(config, "float32")[0]["weights_digest"]:
        return None
    return made


def kept_calibration(config: Config) -> str | None:
    """By what and on which pictures the int8 network was quantised that the output keeps; None: it keeps none."""
    made = _kept(config, quantised_choices(config))
    return None if made is None else str(made.facts["calibration"])


def quantised_choices(config: Config) -> dict[str, Any]:
    """What decides an int8 network beside weights, pictures and the versions of libraries, as plain JSON."""
    row = backbones.find(config.backbone.name)
    told = {
        **_choices(config, "int8"),
        "quantised": {
            "version": int8.QUANTISATION_VERSION,
            "images": config.engine.calibration_images,
            "seed": config.engine.calibration_seed,
            # Of both ways of decoding, the exact one.
            "preprocessing": preprocessing(config, row.normalisation, "float32", exact=True),
        },
    }
    plain: dict[str, Any] = json.loads(json.dumps(told))  # JSON has no tuples
    return plain


def shape_of(config: Config) -> tuple[int, str]:
    """The side of the square that the network sees, and the layer whose output is taken.

    Where the configuration leaves them open they are the network's own, and of one that was taught those that it was
    taught with.
    """
    row = backbones.find(config.backbone.name)
    head = head_of(weights.parse(config.backbone.weights).path)
    input_px, layer = (head.input_px, head.layer) if head else (row.input_px, row.layer)
    return config.backbone.input_px or input_px, config.backbone.layer or layer


def precision_on(config: Config, native: Sequence[Precision], certified: Sequence[Precision] = ()) -> Precision:
    """The configured precision; ``auto`` is bf16 where the CPU has it natively.

    Args:
        config: its ``engine`` part counts.
        native: what all CPUs that count have.
        certified: what ``auto`` may take by a certificate, the best first; none: there is no certificate.
    """
    if config.engine.precision != "auto":
        return config.engine.precision
    if certified:
        return next(precision for precision in certified if precision in (*native, "int8"))
    # Keras computes bf16 on CPUs slower than float32.
    return "bf16" if "bf16" in native and config.engine.name == "openvino" else "float32"


def precision_here(config: Config, certified: Sequence[Precision] = ()) -> Precision:
    """The precision, if the workers' CPUs are like this machine's; ``certified`` as for ``precision_on``."""
    # Where it is told, the engine need not be there to be asked.
    return precision_on(config, native_precisions() if config.engine.precision == "auto" else (), certified)


def is_cached(config: Config, precision: Precision) -> bool:
    """Whether the configured network is in the cache, ready to send; for int8: whether the output keeps it."""
    if precision == "int8":
        return _kept(config, quantised_choices(config)) is not None
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
        if found := find_made(networks, choices, name):
            return found
    recipe = json.dumps(_recipe(config, precision), sort_keys=True)
    return networks / hashlib.sha256(recipe.encode()).hexdigest()[:16]


def check_weights(config: Config) -> None:
    """Raise ``WeightsError`` or ``ConfigError`` for weights that cannot be: a word unknown, a file not there."""
    cached_folder(config, "float32")


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
    put_into_cache(folder, facts, files)


def preprocessing(config: Config, normalisation: str, precision: Precision, exact: bool = False) -> str:
    """All that is done to pixels before the network, as it stands in the fingerprint.

    Args:
        config: its ``decode`` part counts.
        normalisation: by name.
        precision: as for ``decode_options``.
        exact: as if pictures were decoded exactly, whatever the configuration says.
    """
    options = decode_options(config, precision)
    ground = "#" + bytes(options.ground).hex()
    orient = "exif" if options.orient else "as-stored"
    resize = "bilinear" if exact or options.exact else "scaled-dct bilinear-simd"
    return f"v{PREPROCESSING_VERSION} {resize} {orient} on {ground}, {normalisation}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
