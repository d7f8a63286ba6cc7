"""What went wrong with a bucket, told apart by errors as botocore, obstore and the system raise them."""

import random
from collections.abc import Callable

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
    ResponseStreamingError,
)
from obstore.exceptions import GenericError, PermissionDeniedError, PreconditionError, UnauthenticatedError

from mirabelle.errors import FetchError, RejectCode, TransientError
from mirabelle.storage.faults import Fault, code_of, explain, judge, retry


def client_error(code: str, status: int = 400) -> ClientError:
    response = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "GetObject")


def obstore_text(status: str, body: str = "") -> str:
    """As obstore 0.12 writes it."""
    return (
        f"Generic S3 error: Error performing GET http://h:9000/b/k in 1.5ms - Server returned non-2xx status code:"
        f' {status}: {body}\n\nDebug source:\nGeneric {{\n    store: "S3",\n}}'
    )


def xml(code: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>m</Message></Error>'


BY_CODE = {
    "SlowDown": Fault.TRANSIENT,
    "InternalError": Fault.TRANSIENT,
    "ServiceUnavailable": Fault.TRANSIENT,
    "RequestTimeout": Fault.TRANSIENT,
    "SomethingNew": Fault.TRANSIENT,
    "ExpiredToken": Fault.EXPIRED,
    "NoSuchKey": Fault.MISSING,
    "KeyTooLongError": Fault.MISSING,
    "AccessDenied": Fault.DENIED,
    "PreconditionFailed": Fault.CHANGED,
    "NoSuchBucket": Fault.BUCKET,
    "InvalidAccessKeyId": Fault.BUCKET,
    "SignatureDoesNotMatch": Fault.BUCKET,
    "RequestTimeTooSkewed": Fault.BUCKET,
    "PermanentRedirect": Fault.BUCKET,
    "XMinioStorageFull": Fault.BUCKET,
    "KMS.DisabledException": Fault.BUCKET,
}


@pytest.mark.parametrize(("code", "fault"), BY_CODE.items())
def test_the_stores_own_codes(code: str, fault: Fault) -> None:
    assert judge(client_error(code)) is fault
    told = GenericError(obstore_text("400 Bad Request", xml(code)))
    assert code_of(told) == code
    assert judge(told) is fault


@pytest.mark.parametrize(
    ("status", "fault"),
    [
        ("301", Fault.BUCKET),
        # A HEAD's answer has no body, and an expired token's is 400.
        ("400", Fault.EXPIRED),
        ("401", Fault.BUCKET),
        ("403", Fault.DENIED),
        ("404", Fault.MISSING),
        ("412", Fault.CHANGED),
        ("500", Fault.TRANSIENT),
        ("503", Fault.TRANSIENT),
        ("507", Fault.BUCKET),
    ],
)
def test_answers_without_a_body(status: str, fault: Fault) -> None:
    assert judge(client_error(status, int(status))) is fault
    assert judge(client_error("", int(status))) is fault
    assert judge(GenericError(obstore_text(f"{status} Some Words"))) is fault


def test_obstores_kinds_of_errors() -> None:
    assert judge(FileNotFoundError(obstore_text("404 Not Found", xml("NoSuchKey")))) is Fault.MISSING
    # 404 as well, and another thing altogether.
    assert judge(FileNotFoundError(obstore_text("404 Not Found", xml("NoSuchBucket")))) is Fault.BUCKET
    assert judge(PermissionDeniedError(obstore_text("403 Forbidden", xml("InvalidAccessKeyId")))) is Fault.BUCKET
    assert judge(PermissionDeniedError(obstore_text("403 Forbidden"))) is Fault.DENIED
    assert judge(PreconditionError("without words")) is Fault.CHANGED
    told = "no valid credentials for External AWS credential provider: NoCredentialsError: Unable to locate"
    assert code_of(UnauthenticatedError(told)) == "NoCredentials"


@pytest.mark.parametrize(
    "error",
    [
        GenericError("Generic S3 error: HTTP error: error sending request"),
        GenericError("Generic S3 error: HTTP error: request or response body error"),
        EndpointConnectionError(endpoint_url="http://h"),
        ConnectionClosedError(endpoint_url="http://h"),
        ReadTimeoutError(endpoint_url="http://h"),
        ResponseStreamingError(error="IncompleteRead(5 bytes read)"),
        ConnectionResetError(104, "Connection reset by peer"),
        TimeoutError("timed out"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_happens_on_the_way_is_tried_again(error: Exception) -> None:
    assert judge(error) is Fault.TRANSIENT


OURS = [
    TypeError("x"),
    ValueError("status code: 503"),
    KeyError("x"),
    AssertionError(),
    FileNotFoundError(2, "No such file or directory", "/of/this/machine"),
    PermissionError(13, "Permission denied", "/of/this/machine"),
    ParamValidationError(report="Invalid type for parameter Body"),
]


@pytest.mark.parametrize("error", OURS, ids=lambda error: type(error).__name__)
def test_our_own_mistakes_are_not(error: Exception) -> None:
    assert judge(error) is Fault.OURS


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (client_error("NoSuchBucket"), "there is no bucket of that name; create it, or mend the name or the endpoint"),
        (ParamValidationError(report='Invalid bucket name "A!"'), "that is no name a bucket can have; mend it"),
        (client_error("404"), "no such thing at this endpoint; mend the bucket's name, AWS_ENDPOINT_URL"),
        (client_error("InvalidAccessKeyId"), "does not know these credentials; check which ones"),
        (client_error("SignatureDoesNotMatch"), "secret key does not fit the access key; check"),
        (client_error("RequestTimeTooSkewed"), "clock is too far from the store's; set it right"),
        (client_error("PermanentRedirect"), "in another region; set AWS_REGION or s3.region"),
        (client_error("AccessDenied"), "these credentials may not; allow it in their policy or the bucket's"),
        (client_error("XMinioStorageFull"), "the store is full; make room"),
        (client_error("ExpiredToken"), "have expired and were not renewed; renew them"),
        (NoCredentialsError(), "there are no credentials here: set AWS_ACCESS_KEY_ID"),
        (EndpointConnectionError(endpoint_url="http://h"), "does not answer; check AWS_ENDPOINT_URL or s3.endpoint"),
        (GenericError("HTTP error: error sending request"), "does not answer; check AWS_ENDPOINT_URL"),
        (client_error("SlowDown", 503), "the store answers SlowDown; try again later"),
    ],
    ids=lambda value: code_of(value) if isinstance(value, Exception) else "",
)
def test_one_sentence_names_the_bucket_and_the_way_out(error: Exception, way_out: str) -> None:
    sentence = explain(error, "pictures", "read from")
    assert sentence.startswith("cannot read from the bucket pictures: ")
    assert way_out in sentence
    assert sentence.endswith(f"({code_of(error)})")
    assert "\n" not in sentence


class Flaky:
    """Raises these in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.calls, self.renewed = list(errors), 0, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "answer"

    def renew(self) -> None:
        self.renewed += 1


class Drawn(random.Random):
    """Draws nothing but the least, and remembers between what."""

    def __init__(self) -> None:
        super().__init__(0)
        self.asked: list[tuple[float, float]] = []

    def uniform(self, a: float, b: float) -> float:
        self.asked.append((a, b))
        return a


def tried(flaky: Flaky, attempts: int, drawn: Drawn | None = None) -> str:
    return retry(flaky, attempts, flaky.renew, drawn or Drawn())


def test_what_may_pass_is_tried_again_with_full_jitter() -> None:
    flaky, drawn = Flaky(*[client_error("SlowDown", 503)] * 9), Drawn()
    assert tried(flaky, 10, drawn) == "answer"
    assert (flaky.calls, flaky.renewed) == (10, 0)
    assert [bounds[0] for bounds in drawn.asked] == [0] * 9
    # Doubled each time up to ten seconds, so that a bucket under load is left alone.
    assert [bounds[1] for bounds in drawn.asked] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])


def test_the_last_attempt_is_the_last() -> None:
    flaky, drawn = Flaky(*[client_error("SlowDown", 503)] * 5), Drawn()
    with pytest.raises(TransientError, match="SlowDown after 3 attempts") as raised:
        tried(flaky, 3, drawn)
    assert isinstance(raised.value.__cause__, ClientError)
    assert flaky.calls == 3
    # And nobody waits after it.
    assert len(drawn.asked) == 2


def test_expired_credentials_are_renewed() -> None:
    flaky = Flaky(client_error("ExpiredToken"), client_error("SlowDown", 503), client_error("ExpiredToken"))
    assert tried(flaky, 5) == "answer"
    assert flaky.renewed == 2
    hopeless = Flaky(*[client_error("ExpiredToken")] * 9)
    with pytest.raises(TransientError, match="ExpiredToken after 3 attempts"):
        tried(hopeless, 3)


@pytest.mark.parametrize(
    "error",
    [
        client_error("NoSuchKey", 404),
        client_error("AccessDenied", 403),
        client_error("NoSuchBucket", 404),
        TypeError("ours"),
        FetchError(RejectCode.TOO_MANY_BYTES),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_another_attempt_cannot_mend_comes_at_once_as_it_is(error: Exception) -> None:
    flaky = Flaky(error)
    with pytest.raises(type(error)) as raised:
        tried(flaky, 10)
    assert raised.value is error
    assert (flaky.calls, flaky.renewed) == (1, 0)


def test_an_interrupt_is_no_fault() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    call: Callable[[], None] = interrupted
    with pytest.raises(KeyboardInterrupt):
        retry(call, 10, lambda: None)
