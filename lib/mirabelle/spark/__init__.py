"""DataFrames in, DataFrames out: the Spark half of every part of the road. [Spark]

Each module says what runs on the driver and what on executors. The functions that executors run are made by small
factories; they call on ``worker``, ``probe`` and the pure core alone, so that a worker needs none of the driver's
packages.
"""
