"""How a driver inside a YARN container ends its application. [Spark; driver only]

In cluster mode Spark's ApplicationMaster runs our command as a child, and tells YARN of its end no more than "User
application exited with status 2"; YARN then runs it again. So the master is told first, in our words, by the way that
it takes itself.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

log = logging.getLogger(__name__)

MASTER = "org.apache.spark.deploy.yarn.ApplicationMaster"
STATUS = "org.apache.hadoop.yarn.api.records.FinalApplicationStatus"
ATTEMPTS = "spark.yarn.maxAppAttempts"
# What ends soonest: no executor is asked for or waited for.
NOTHING_ASKED = {
    "spark.app.name": "Mirabelle",
    "spark.dynamicAllocation.enabled": "false",
    "spark.executor.instances": "0",
    "spark.scheduler.minRegisteredResourcesRatio": "0",
}


def end_application(exit_code: int, sentence: str) -> None:
    """Have YARN know an application as failed, with a sentence, and not run it a second time; nothing in client mode.

    Where someone set ``spark.yarn.maxAppAttempts`` themselves, YARN does as they said.

    Args:
        exit_code: that the command is about to end with.
        sentence: which it has printed.
    """
    told = f"exit code {exit_code}: {sentence}"
    # All of this is Spark's own affair; where it is otherwise one day, YARN learns the exit code alone.
    try:
        from pyspark import SparkConf, SparkContext

        SparkContext._ensure_initialized()
        jvm: Any = SparkContext._jvm
        conf = SparkConf()
        if conf.get("spark.submit.deployMode", "client") != "cluster" or conf.get("spark.master") != "yarn":
            return
        # YARN shows the end of this stream, too; what our own is written to it does not.
        jvm.java.lang.System.err.println(told)
        # Scala's name for what is its own, and public to Java.
        masters = jvm.java.lang.Class.forName(f"{MASTER}$").getField("MODULE$").get(None)
        master = getattr(masters, f"{MASTER.replace('.', '$')}$$master")()
        registered = master.getClass().getDeclaredField("registered")
        registered.setAccessible(True)
        if not conf.contains(ATTEMPTS) and not registered.get(master):
            # Only who has registered may say how it ended, and that comes with the session.
            for key, value in NOTHING_ASKED.items():
                conf.set(key, value)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                SparkContext.getOrCreate(conf)
        status = jvm.java.lang.Class.forName(STATUS).getField("FAILED").get(None)
        if not conf.contains(ATTEMPTS):
            master.unregister(status, told)
        master.finish(status, exit_code, told)
    except Exception as error:
        log.debug("YARN was not told: %s", error)
