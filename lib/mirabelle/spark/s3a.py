"""What Spark needs to read and write buckets itself: S3A, its packages, its committer. [Spark's jars; driver only]

``conf/spark-s3.conf`` says the same to spark-submit, whose packages must be known before Python begins.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mirabelle.errors import PreflightError
from mirabelle.storage import S3Options
from mirabelle.storage.paths import EMR_MARK

if TYPE_CHECKING:
    from pyspark import SparkContext

# The parts of AWS's SDK that S3A calls: 13 MB in place of the 600 MB of the bundle that holds every service, which
# Spark would copy to each executor. By the Hadoop that each fits (hadoop-project's pom, aws-java-sdk-v2.version).
SDK_OF_HADOOP = {"3.4.0": "2.23.19", "3.4.1": "2.24.6", "3.4.2": "2.29.52", "3.5.0": "2.35.4"}
SDK_PARTS = ("s3", "s3-transfer-manager", "sts", "sso", "ssooidc")
# The committers are the same in all of a line, and not each version of them can be had everywhere.
HADOOP_CLOUD_OF_SPARK = {"3.5.6": "3.5.7"}
# What spark-hadoop-cloud brings for other clouds, and what Spark has already.
EXCLUDES = (
    "com.fasterxml.jackson.core:jackson-annotations",
    "com.fasterxml.jackson.core:jackson-databind",
    "com.fasterxml.jackson.dataformat:jackson-dataformat-cbor",
    "com.google.cloud.bigdataoss:gcs-connector",
    "com.squareup.okhttp3:okhttp",
    "com.squareup.okio:okio",
    "commons-codec:commons-codec",
    "commons-logging:commons-logging",
    "joda-time:joda-time",
    "org.apache.hadoop:hadoop-azure",
    "org.apache.hadoop:hadoop-client-api",
    "org.apache.hadoop:hadoop-client-runtime",
    "org.apache.hadoop:hadoop-cloud-storage",
    "org.apache.hadoop:hadoop-huaweicloud",
    "org.apache.hadoop:hadoop-openstack",
    "org.apache.httpcomponents:httpclient",
    "org.apache.httpcomponents:httpcore",
    "org.eclipse.jetty:jetty-util",
    "org.eclipse.jetty:jetty-util-ajax",
    "org.slf4j:slf4j-api",
    "org.wildfly.openssl:wildfly-openssl",
)
BUNDLE = "software.amazon.awssdk:bundle"
COMMITTER = {
    "spark.hadoop.fs.s3a.committer.name": "magic",
    "spark.hadoop.fs.s3a.committer.magic.enabled": "true",
    "spark.hadoop.mapreduce.outputcommitter.factory.scheme.s3a": "org.apache.hadoop.fs.s3a.commit.S3ACommitterFactory",
    "spark.sql.sources.commitProtocolClass": "org.apache.spark.internal.io.cloud.PathOutputCommitProtocol",
    "spark.sql.parquet.output.committer.class": "org.apache.spark.internal.io.cloud.BindingParquetOutputCommitter",
}
# Hadoop 3.4.2 reads the ranges of a Parquet file at once, and gives up at the first that breaks off; one by one,
# it asks for the rest of it again.
READING = {"spark.hadoop.parquet.hadoop.vectored.io.enabled": "false"}
ANONYMOUS = "org.apache.hadoop.fs.s3a.AnonymousAWSCredentialsProvider"


def packages(spark_version: str, hadoop_version: str) -> dict[str, str]:
    """``spark.jars.packages`` and ``spark.jars.excludes`` for a Spark and the Hadoop in it."""
    scala = "2.12" if spark_version.startswith("3.") else "2.13"
    wanted = [
        f"org.apache.hadoop:hadoop-aws:{hadoop_version}",
        f"org.apache.spark:spark-hadoop-cloud_{scala}:{HADOOP_CLOUD_OF_SPARK.get(spark_version, spark_version)}",
    ]
    sdk = SDK_OF_HADOOP.get(hadoop_version)
    wanted += [f"software.amazon.awssdk:{part}:{sdk}" for part in SDK_PARTS] if sdk else []
    left_out = [*EXCLUDES, *([BUNDLE] if sdk else [])]
    return {"spark.jars.packages": ",".join(wanted), "spark.jars.excludes": ",".join(left_out)}


def credentials_provider(hadoop_version: str) -> str:
    """AWS's default chain, by the name it has in the SDK that this Hadoop was built with."""
    if hadoop_version.startswith(("3.0", "3.1", "3.2", "3.3")):
        return "com.amazonaws.auth.DefaultAWSCredentialsProviderChain"
    return "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider"


def s3a_settings(options: S3Options, cache: Path) -> dict[str, object]:
    """Spark properties with which S3A reaches the same buckets as the stores do; none on EMR, which has its own.

    Args:
        options: resolved.
        cache: folder in which ``remember_jars`` left what an earlier session's packages came to.
    """
    if os.path.isdir(EMR_MARK):
        return {}
    import pyspark

    hadoop = _hadoop_version(Path(pyspark.__file__).parent / "jars")
    prefix = "spark.hadoop.fs.s3a"
    provider = credentials_provider(hadoop)
    found: dict[str, object] = {**COMMITTER, **READING, f"{prefix}.aws.credentials.provider": provider}
    if hadoop:
        wanted = packages(pyspark.__version__, hadoop)
        jars = _remembered_jars(cache, wanted)
        found |= {"spark.jars": ",".join(jars)} if jars else wanted
    if options.endpoint:
        found[f"{prefix}.endpoint"] = options.endpoint
        found[f"{prefix}.connection.ssl.enabled"] = options.endpoint.startswith("https")
    if options.endpoint or options.path_style:
        found[f"{prefix}.path.style.access"] = options.path_style is not False
    if options.region:
        found[f"{prefix}.endpoint.region"] = options.region
    if options.requester_pays:
        found[f"{prefix}.requester.pays.enabled"] = True
    for bucket in options.anonymous:
        found[f"{prefix}.{f'bucket.{bucket}.' if bucket != '*' else ''}aws.credentials.provider"] = ANONYMOUS
    if options.profile and not {"AWS_PROFILE", "AWS_ACCESS_KEY_ID"} & set(os.environ):
        # The JVM's SDK knows no other way to be told; the driver's takes it when it starts.
        os.environ["AWS_PROFILE"] = options.profile
        found["spark.executorEnv.AWS_PROFILE"] = options.profile
    return found


def remember_jars(context: SparkContext, cache: Path) -> None:
    """Keep the names of the jars that a session's packages came to, so that the next need not resolve them: seconds."""
    conf = context.getConf()
    wanted = {key: conf.get(key, "") or "" for key in ("spark.jars.packages", "spark.jars.excludes")}
    jars = [jar.removeprefix("file://") for jar in (conf.get("spark.jars", "") or "").split(",") if jar]
    if wanted["spark.jars.packages"] and jars and all(map(os.path.isfile, jars)):
        with suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)
            _jars_file(cache, wanted).write_text("\n".join(jars), encoding="utf-8")


def _remembered_jars(cache: Path, wanted: Mapping[str, str]) -> list[str]:
    try:
        jars = _jars_file(cache, wanted).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return jars if all(map(os.path.isfile, jars)) else []


def _jars_file(cache: Path, wanted: Mapping[str, str]) -> Path:
    return cache / f"jars-{hashlib.sha256(repr(sorted(wanted.items())).encode()).hexdigest()[:16]}.txt"


def check_s3a(context: SparkContext) -> None:
    """Raise ``PreflightError`` if this Spark cannot write to buckets: its packages must be given when it starts."""
    if os.path.isdir(EMR_MARK):
        return
    jvm = context._jvm
    assert jvm is not None
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    for name in ("org.apache.hadoop.fs.s3a.S3AFileSystem", COMMITTER["spark.sql.sources.commitProtocolClass"]):
        try:
            loader.loadClass(name)
        except Exception as error:  # py4j wraps the ClassNotFoundException
            raise PreflightError(
                f"this Spark cannot write to buckets: it has no {name}; start it with --properties-file"
                " conf/spark-s3.conf, or give --packages as that file does"
            ) from error


def _hadoop_version(jars: Path) -> str:
    """Of the Hadoop in a folder of Spark's jars; empty where it brings none."""
    found = [re.fullmatch(r"hadoop-client-api-(\d+\.\d+\.\d+).*\.jar", file.name) for file in jars.glob("hadoop-*.jar")]
    return next((match[1] for match in found if match), "")
