"""The rights under conf/aws: enough for a whole job, too little for anything else, each with its reason."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from conftest import REPOSITORY, SMALL
from object_store import Server, upload_folder
from s3.commands import SPARK, Place

POLICIES = REPOSITORY / "conf" / "aws"
FILES = ("submitter", "job", "reader", "states", "scheduler")
# What IAM calls a service, by what boto3 does.
PREFIXES = {"emr": "elasticmapreduce"}
# No call of its own: AWS asks for them beside one.
BESIDE = {
    "emr-serverless:TagResource",
    "emr-containers:TagResource",
    "elasticmapreduce:AddTags",
    "elasticmapreduce:PutAutoTerminationPolicy",
    "iam:CreateServiceLinkedRole",
    "iam:PassRole",
}


def statements(file: str) -> list[dict[str, Any]]:
    return json.loads((POLICIES / f"{file}.json").read_text())["Statement"]


def actions(file: str) -> list[str]:
    return [action for statement in statements(file) for action in statement["Action"]]


@pytest.mark.parametrize("file", FILES)
def test_each_action_has_its_reason_and_no_other_is_there(file: str) -> None:
    text = (POLICIES / "README.md").read_text()
    section = text.split(f"\n## {file}.json\n")[1].partition("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+:\w+)` \| .+ \|$", section, re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == set(actions(file))
    assert not any("*" in action for action in actions(file))


def test_the_submitter_may_ask_what_the_code_asks_and_nothing_else() -> None:
    code = "\n".join(path.read_text() for path in (REPOSITORY / "lib" / "mirabelle" / "cluster").glob("emr*.py"))
    asked = set()
    for kind in re.split(r"^class ", code, flags=re.MULTILINE):
        service = re.search(r'SERVICE = "([\w-]+)"', kind)
        for operation in re.findall(r'Request\(\s*self\.SERVICE,\s*"(\w+)"', kind):
            assert service
            asked.add(f"{PREFIXES.get(service[1], service[1])}:{operation}")
    assert len(asked) > 10
    assert {action for action in actions("submitter") if not action.startswith("s3:")} == asked | BESIDE


def limited(server: Server, file: str, **buckets: str) -> dict[str, str]:
    """Variables of somebody who has the rights of ``file`` in MinIO, and no others."""
    if not server.is_minio:
        pytest.skip("moto's server lets everybody do everything")
    text = json.dumps([s for s in statements(file) if s["Action"][0].startswith("s3:")])
    for name, bucket in buckets.items():
        text = text.replace(f"{name}-BUCKET", bucket)
    assert "-BUCKET" not in text
    sts = boto3.client(
        "sts",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
    )
    policy = json.dumps({"Version": "2012-10-17", "Statement": json.loads(text)})
    given = sts.assume_role(RoleArn="arn:aws:iam::123456789012:role/any", RoleSessionName="test", Policy=policy)
    credentials = given["Credentials"]
    return {
        "AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
        "AWS_SESSION_TOKEN": credentials["SessionToken"],
    }


@pytest.mark.long
def test_a_whole_job_runs_under_its_policy_and_a_reader_can_only_read(
    server: Server, client: Any, pictures: Path, cache: Path, tmp_path: Path
) -> None:
    buckets = {"PICTURES": "their-pictures", "RESULTS": "our-results", "STAGING": "what-we-send"}
    for name in buckets.values():
        client.create_bucket(Bucket=name)
    upload_folder(client, buckets["PICTURES"], "fruits/", pictures)
    place = Place(server, client, tmp_path, cache)
    out = f"s3://{buckets['RESULTS']}/out"
    settings = [*SMALL, *SPARK, "reduce.components=2", f"images.root=s3://{buckets['PICTURES']}/fruits"]
    settings.append(f"output={out}")
    job = limited(server, "job", **buckets)
    done = place.run("run", settings=settings, **job)
    assert done.code == 0, done.stderr
    # Compaction deletes, which is what the right is for.
    done = place.run("compact", "--grace", "0", settings=settings, **job)
    assert done.code == 0, done.stderr
    reader = limited(server, "reader", RESULTS=buckets["RESULTS"])
    assert place.run("verify", out, "--deep", **reader).code == 0
    assert "54" in place.run("inspect", out, **reader).stdout
    refused = place.run("extract", settings=settings, **reader)
    assert refused.code == 2
    assert "these credentials may not; allow it in their policy" in refused.sentence
    as_job = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=job["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=job["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=job["AWS_SESSION_TOKEN"],
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        as_job.delete_object(Bucket=buckets["PICTURES"], Key="fruits/Training/amber/0.png")
