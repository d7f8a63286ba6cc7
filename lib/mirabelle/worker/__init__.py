"""What runs in a worker process: fetch, decode, embed, sum, project, merge, and put a task's rows away.

Runs on executors, and in any other process: it knows no Spark. May touch stores and a scratch folder; imports none of
the driver's packages, so that a worker installs few. Nothing is handed out here: import from the modules.
"""
