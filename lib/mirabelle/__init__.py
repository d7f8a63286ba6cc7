"""Mirabelle: a bucket of pictures into features, and features into decisions, on Apache Spark.

What a notebook or a job of one's own needs, and nothing else is promised to stay where it is::

    import mirabelle

    config = mirabelle.load_config("conf/fruits.yaml", ["images.root=PICTURES", "output=OUT"])
    mirabelle.run(config)                                # what `mirabelle run` does
    view = mirabelle.current_features(spark, "OUT")      # the features that count now

    network = mirabelle.prepare_network(config)
    embedded = paths.withColumn("outcome", mirabelle.embed("path", network))

    mirabelle.open_bundle("OUT/bundle/ID.tar").predict(["7.jpg"])    # needs no Spark and no configuration

Runs on the driver. Importing it loads nothing: each name's module is imported when the name is first used (PEP 562).
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if sys.version_info < (3, 11):  # noqa: UP036  # EMR 7 takes 3.9 where nobody says otherwise, and pip is not asked
    sys.stderr.write(
        "error: Mirabelle needs Python 3.11 or newer, and {} is {}.{}; set spark.pyspark.python (PYSPARK_PYTHON) to a"
        " newer one, or to ./environment/bin/python of `mirabelle pack`\n".format(sys.executable, *sys.version_info)
    )
    raise SystemExit(2)

if TYPE_CHECKING:
    from mirabelle.bundle import open_bundle as open_bundle
    from mirabelle.config import Config as Config
    from mirabelle.config.stores import load_config as load_config
    from mirabelle.errors import BarNotMet as BarNotMet
    from mirabelle.errors import BundleError as BundleError
    from mirabelle.errors import ConfigError as ConfigError
    from mirabelle.errors import DecodeError as DecodeError
    from mirabelle.errors import EmbedError as EmbedError
    from mirabelle.errors import FetchError as FetchError
    from mirabelle.errors import FingerprintMismatch as FingerprintMismatch
    from mirabelle.errors import ImageError as ImageError
    from mirabelle.errors import ListingError as ListingError
    from mirabelle.errors import MirabelleError as MirabelleError
    from mirabelle.errors import OutputError as OutputError
    from mirabelle.errors import OutputInUse as OutputInUse
    from mirabelle.errors import PreflightError as PreflightError
    from mirabelle.errors import RunFailed as RunFailed
    from mirabelle.errors import TrainingError as TrainingError
    from mirabelle.errors import TransientError as TransientError
    from mirabelle.errors import UserError as UserError
    from mirabelle.errors import WeightsError as WeightsError
    from mirabelle.listing.calibration import prepare_network as prepare_network
    from mirabelle.pipeline.running import run as run
    from mirabelle.spark.embed import embed as embed
    from mirabelle.spark.read import current_features as current_features

__version__ = "0.1.0"

_HOMES = {
    "Config": "mirabelle.config",
    "load_config": "mirabelle.config.stores",
    "prepare_network": "mirabelle.listing.calibration",
    "run": "mirabelle.pipeline.running",
    "embed": "mirabelle.spark.embed",
    "current_features": "mirabelle.spark.read",
    "open_bundle": "mirabelle.bundle",
}
_ERRORS = (
    "BarNotMet",
    "BundleError",
    "ConfigError",
    "DecodeError",
    "EmbedError",
    "FetchError",
    "FingerprintMismatch",
    "ImageError",
    "ListingError",
    "MirabelleError",
    "OutputError",
    "OutputInUse",
    "PreflightError",
    "RunFailed",
    "TrainingError",
    "TransientError",
    "UserError",
    "WeightsError",
)
__all__ = ["__version__", *_HOMES, *_ERRORS]  # noqa: PLE0604  # all of them are strings


def __getattr__(name: str) -> Any:
    home = "mirabelle.errors" if name in _ERRORS else _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'mirabelle' has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(home), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
