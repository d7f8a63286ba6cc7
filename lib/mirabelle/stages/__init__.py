"""DataFrames in, DataFrames out: the Spark half of every part of the road. [Spark]

Each module says what runs on the driver and what on executors. The functions that executors run are made by small
factories at module level, so that they can be tested without Spark.
"""

from mirabelle.stages.embed import embed

__all__ = ["embed"]
