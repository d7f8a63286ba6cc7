"""The configuration: ``models`` has every key, ``loading`` puts a run's own together, ``stores`` opens what it names.

Runs on the driver alone. May touch the environment, the one YAML file it is given and, through ``stores``, the stores.
"""

from mirabelle.config.classifying import Classify
from mirabelle.config.loading import load
from mirabelle.config.models import Config, is_secret, keys

__all__ = ["Classify", "Config", "is_secret", "keys", "load"]
