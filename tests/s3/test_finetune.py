"""A network taught by a bucket's pictures, into a bucket, and taught further from there."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from conftest import draw_kinds
from mirabelle import load_config, open_bundle
from mirabelle.bundle import Answer
from mirabelle.console import Console
from mirabelle.finetune import Kept
from mirabelle.pipeline.bundling import bundle
from mirabelle.pipeline.finetune import finetune
from object_store import Server, upload_folder

pytestmark = pytest.mark.slow


def keys_of(client: Any, bucket: str) -> list[str]:
    return [one["Key"] for one in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def read(client: Any, bucket: str, key: str) -> bytes:
    content: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


def test_from_a_bucket_to_a_bucket(
    aws: Server, client: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_folder(client, bucket, "pictures/", draw_kinds(tmp_path / "pictures"))
    told = [
        f"images.root=s3://{bucket}/pictures",
        "images.layout={split}/{label}/{name}",
        f"output=s3://{bucket}/out",
        f"cache={tmp_path}",
        "finetune={input_px: 16, hidden: [8], epochs: 3, optimizer: Adam, optimizer_params: {learning_rate: 3e-3}}",
    ]
    config = load_config(None, told)
    # Cut short behind its second epoch, it goes on from what the bucket has.
    puts = []

    def put(kept: Kept, *rest: Any) -> None:
        real(kept, *rest)
        puts.append(len(rest[0]))
        if puts == [1, 2]:
            raise KeyboardInterrupt

    real = Kept.put
    monkeypatch.setattr(Kept, "put", put)
    with pytest.raises(KeyboardInterrupt):
        finetune(config, Console(quiet=True))
    assert [key for key in keys_of(client, bucket) if "unfinished-" in key and key.endswith("state.json")]
    finetune(config, Console(quiet=True))
    assert puts == [1, 2, 3]
    keys = keys_of(client, bucket)
    assert not [key for key in keys if "unfinished-" in key]
    (predictions,) = [key for key in keys if key.startswith("out/predictions/")]
    assert len(pd.read_parquet(io.BytesIO(read(client, bucket, predictions)))) == 18
    facts = [json.loads(read(client, bucket, key)) for key in keys if key.endswith("finetuned.json")]
    whole = next(one for one in facts if not one.get("interrupted"))
    assert whole["epochs"] == 3
    # Bundled into the bucket, of the one that was not cut short, it is opened there.
    (folder,) = (text.split(",")[0] for name, text in bundle(config, Console(quiet=True)) if name == "bundle")
    said = pd.read_parquet(io.BytesIO(read(client, bucket, predictions)))
    for place in (folder, f"{folder}.tar"):
        whole_bundle = open_bundle(place)
        assert whole_bundle.info.embedding["weights"] == "model.keras"
        answers = whole_bundle.predict(said["path"].tolist())
        assert [one.label for one in answers if isinstance(one, Answer)] == said["predicted"].tolist()
    # From there another lesson goes on with it, too.
    model = f"s3://{bucket}/out/finetuned/{whole['id']}/model.keras"
    further = load_config(None, [*told, f"finetune.weights={model}", "finetune.epochs=1"])
    finetune(further, Console(quiet=True))
    newest = max(key for key in keys_of(client, bucket) if key.endswith("finetuned.json"))
    assert json.loads(read(client, bucket, newest))["weights"].endswith("/model.keras")
