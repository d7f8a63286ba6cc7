"""All that is Spark's: the session and its JVM, what it needs for buckets, and the Spark half of every stage.

A stage's module has the name of the one in ``worker/`` that its tasks call: ``embed``, ``reduce``, ``compact``. Runs on
the driver; the functions that ``make_...`` return run on executors, and call on ``worker/`` and the pure core alone.
May touch Spark and, through arguments, stores. Nothing is handed out here: import from the modules, since only some of
them load Spark.
"""
