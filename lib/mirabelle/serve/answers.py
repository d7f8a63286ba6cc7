"""What a bundle says, as the members of a JSON answer. Pure."""

from __future__ import annotations

import base64
from typing import Any

from mirabelle.bundle import Answer, Bundle, Neighbour, Outputs
from mirabelle.errors import ImageError
from mirabelle.serve.work import Outcome

_MAGIC = ((b"RIFF", "image/webp"), (b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"))


def of_model(bundle: Bundle) -> dict[str, str]:
    """Who answered."""
    return {"id": bundle.info.id, "name": bundle.info.name, "fingerprint": bundle.info.fingerprint}


def of_outcome(outcome: Outcome) -> dict[str, Any]:
    """What every picture's answer begins with, and all there is of a rejected one."""
    size: dict[str, Any] = {"name": outcome.name}
    if outcome.picture is not None:
        size |= {"width_px": outcome.picture.width_px, "height_px": outcome.picture.height_px}
    if outcome.error is not None:
        return {**size, "rejected": of_reject(outcome.error)}
    assert outcome.row is not None
    seconds = {
        "decode": outcome.decode_seconds,
        "wait": outcome.row.wait_seconds,
        "network": outcome.row.network_seconds,
    }
    return {**size, "ms": {part: round(1000 * each, 3) for part, each in seconds.items()}}


def of_reject(error: ImageError) -> dict[str, str]:
    """Why a picture got no answer."""
    return {"code": error.code, "stage": error.stage, "detail": error.detail}


def answer_of(bundle: Bundle, outputs: Outputs, top: int) -> Answer:
    """What the outputs of one picture say; they are numbers, which the batcher has seen to."""
    (answer,) = bundle.answer(outputs, top)
    assert isinstance(answer, Answer)
    return answer


def of_answer(answer: Answer) -> dict[str, Any]:
    """What is given, the likeliest label and its probability, those of the likeliest ones; of a chain both levels."""
    told = {"given": answer.given, **_of_level(answer)}
    return told if answer.coarse is None else {**told, "coarse": _of_level(answer.coarse)}


def _of_level(answer: Answer) -> dict[str, Any]:
    return {
        "label": answer.label,
        "probability": answer.probability,
        "sure": answer.sure,
        "probabilities": [{"label": one.label, "probability": one.probability} for one in answer.probabilities],
    }


def of_neighbour(neighbour: Neighbour) -> dict[str, Any]:
    """A picture of the training set."""
    return {
        "path": neighbour.path,
        "label": neighbour.label,
        "cosine": neighbour.cosine,
        "thumbnail": data_address(neighbour.thumbnail),
    }


def data_address(picture: bytes | None) -> str | None:
    """An encoded picture as a ``data:`` address; None where there is none, or it is no WebP, PNG or JPEG."""
    kind = next((kind for magic, kind in _MAGIC if picture and picture.startswith(magic)), None)
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}" if picture and kind else None
