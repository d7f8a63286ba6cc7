"""The jobs themselves, wired from the parts: what the command and the scripts in ``jobs/`` both call.

Runs on the driver alone, and may touch all that lies below it: Spark, stores, the console. ``running`` has the order of
the stages; ``job`` is what they share, and imports none of them.
"""

from mirabelle.pipeline.job import Job
from mirabelle.pipeline.running import STAGES, execute

__all__ = ["STAGES", "Job", "execute"]
