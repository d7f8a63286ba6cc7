"""What Spark is told about buckets; a session that uses it is in tests/s3."""

from pathlib import Path

import pyspark
import pytest

from conftest import REPOSITORY
from mirabelle.spark.s3a import ANONYMOUS, COMMITTER, READING, credentials_provider, packages, s3a_settings
from mirabelle.storage import S3Options, spark_uri


def properties(name: str) -> dict[str, str]:
    lines = (REPOSITORY / "conf" / name).read_text().splitlines()
    return dict(line.split(None, 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize(
    ("name", "spark", "hadoop"),
    [
        ("spark-s3.conf", "4.1.2", "3.4.2"),
        ("spark-s3-4.0.conf", "4.0.2", "3.4.1"),
        ("spark-s3-3.5.conf", "3.5.6", "3.3.4"),
    ],
)
def test_the_shipped_properties_say_what_the_session_does(name: str, spark: str, hadoop: str) -> None:
    provider = {"spark.hadoop.fs.s3a.aws.credentials.provider": credentials_provider(hadoop)}
    assert properties(name) == {**packages(spark, hadoop), **COMMITTER, **READING, **provider}


def test_the_shipped_packages_fit_the_locked_spark() -> None:
    wanted = properties("spark-s3.conf")["spark.jars.packages"].split(",")
    assert f"org.apache.spark:spark-hadoop-cloud_2.13:{pyspark.__version__}" in wanted
    (api,) = (Path(pyspark.__file__).parent / "jars").glob("hadoop-client-api-*.jar")
    assert f"org.apache.hadoop:hadoop-aws:{api.stem.removeprefix('hadoop-client-api-')}" in wanted


def test_a_hadoop_that_is_not_known_takes_the_whole_sdk() -> None:
    found = packages("9.9.9", "9.9.9")
    assert "awssdk" not in found["spark.jars.packages"]
    assert "awssdk" not in found["spark.jars.excludes"]


def test_options_become_properties_of_s3a(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that it is put back whatever the session sets.
    monkeypatch.setenv("AWS_PROFILE", "")
    monkeypatch.delenv("AWS_PROFILE")
    options = S3Options(
        endpoint="http://127.0.0.1:9000", region="eu-west-3", anonymous=("open",), requester_pays=True, profile="plum"
    )
    found = s3a_settings(options, tmp_path)
    prefix = "spark.hadoop.fs.s3a"
    assert found[f"{prefix}.endpoint"] == "http://127.0.0.1:9000"
    assert found[f"{prefix}.path.style.access"] is True
    assert found[f"{prefix}.connection.ssl.enabled"] is False
    assert found[f"{prefix}.endpoint.region"] == "eu-west-3"
    assert found[f"{prefix}.requester.pays.enabled"] is True
    assert found[f"{prefix}.bucket.open.aws.credentials.provider"] == ANONYMOUS
    assert found["spark.executorEnv.AWS_PROFILE"] == "plum"
    assert not [key for key in found if "secret" in key or "access.key" in key]


def test_spark_takes_s3a_and_files() -> None:
    assert spark_uri("s3://bucket/a b/c") == "s3a://bucket/a b/c"
    assert spark_uri("/a b/c") == "file:///a b/c"
