"""The configuration: ``models`` has every key, ``loading`` puts a run's own together."""

from mirabelle.config.loading import load
from mirabelle.config.models import Classify, Config, is_secret, keys

__all__ = ["Classify", "Config", "is_secret", "keys", "load"]
