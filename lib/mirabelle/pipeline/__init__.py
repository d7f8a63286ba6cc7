"""The jobs themselves, wired from the parts: what the command and the scripts in ``jobs/`` both call. Driver only."""

from mirabelle.pipeline.job import Job, execute

__all__ = ["Job", "execute"]
