"""A program: YARN on loopback, one ResourceManager and two NodeManagers in this process's JVM, until it is ended.

Hadoop's own MiniYARNCluster, called through py4j, so that no Java is compiled. Its jars come from where Spark's
packages do. Lines on standard input are orders: ``stop-node 1`` ends a NodeManager with all its containers.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import pyspark
from pyspark.conf import SparkConf
from pyspark.java_gateway import launch_gateway

# The minicluster's jar has all of Hadoop, and these are what it leaves out.
BESIDE = (
    "org.bouncycastle:bcpkix-jdk18on:1.78.1",
    "javax.xml.bind:jaxb-api:2.3.1",
    "org.glassfish.jaxb:jaxb-runtime:2.3.9",
)
OF_SPARK = "org.apache.hadoop:hadoop-client-api,org.apache.hadoop:hadoop-client-runtime"
NODES = 2
SETTINGS = {
    # The shaded jar has no capacity-scheduler.xml.
    "yarn.resourcemanager.scheduler.class": (
        "org.apache.hadoop.yarn.server.resourcemanager.scheduler.fifo.FifoScheduler"
    ),
    "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": "99.5",
    # What the nodes offer is no matter of what this machine has.
    "yarn.minicluster.yarn.nodemanager.resource.memory-mb": "16384",
    "yarn.nodemanager.resource.cpu-vcores": "16",
    "yarn.scheduler.minimum-allocation-mb": "64",
    # An application may ask for as many as this.
    "yarn.resourcemanager.am.max-attempts": "20",
    # A node that is gone is missed after this long, not after ten minutes; a driver has its archives to unpack first.
    "yarn.nm.liveness-monitor.expiry-interval-ms": "30000",
    "yarn.am.liveness-monitor.expiry-interval-ms": "120000",
    # It would see to it that no container is killed for its memory.
    "yarn.minicluster.control-resource-monitoring": "true",
    "yarn.nodemanager.pmem-check-enabled": "true",
    # It stands for cgroups, which would do it in YARN's place.
    "yarn.nodemanager.resource.memory.enforced": "false",
    "yarn.nodemanager.vmem-check-enabled": "false",
    "yarn.nodemanager.container-monitor.interval-ms": "500",
    # Logs are looked at when all is over.
    "yarn.nodemanager.delete.debug-delay-sec": "3600",
}


def jvm_with(arguments: str) -> Any:
    """A JVM with Spark's classes, started as ``spark-submit`` does with these arguments."""
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"{arguments} pyspark-shell"
    return launch_gateway(SparkConf(loadDefaults=False))


def resolved(packages: str) -> list[str]:
    """The jars of packages and of what they need, but for Spark's own."""
    gateway = jvm_with(f"--packages {packages} --exclude-packages {OF_SPARK}")
    jars = str(gateway.jvm.java.lang.System.getProperty("spark.jars"))
    gateway.shutdown()
    return [jar.removeprefix("file://") for jar in jars.split(",")]


def main(folder: Path) -> None:
    """Start it, write its site files into ``folder``/conf, and obey."""
    (hadoop,) = Path(pyspark.__file__).parent.glob("jars/hadoop-client-api-*.jar")
    version = re.sub(r"hadoop-client-api-|\.jar", "", hadoop.name)
    jars = resolved(",".join([f"org.apache.hadoop:hadoop-client-minicluster:{version}", *BESIDE]))
    opened = "--driver-java-options --add-opens=java.base/java.lang=ALL-UNNAMED"
    os.chdir(folder)
    jvm = jvm_with(f"--driver-memory 768m --driver-class-path {':'.join(jars)} {opened}").jvm
    conf = jvm.org.apache.hadoop.yarn.conf.YarnConfiguration()
    for key, value in SETTINGS.items():
        conf.set(key, value)
    cluster = jvm.org.apache.hadoop.yarn.server.MiniYARNCluster("yarn", 1, NODES, 1, 1)
    cluster.init(conf)
    cluster.start()
    (folder / "conf").mkdir()
    for name in ("core-site.xml", "yarn-site.xml"):
        with_address = jvm.java.io.FileOutputStream(str(folder / "conf" / name))
        cluster.getConfig().writeXml(with_address)
        with_address.close()
    print("YARN is up", flush=True)  # noqa: T201
    for line in sys.stdin:
        order, node = line.split()
        assert order == "stop-node"
        cluster.getNodeManager(int(node)).stop()
        print(f"node {node} is gone", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]))
