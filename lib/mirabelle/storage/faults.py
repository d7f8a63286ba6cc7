"""What went wrong with a bucket, told apart: what to try again, what one object lacks, and what stops a run.

Takes errors of boto3 and obstore as they come. [clock between two attempts; names of proxies in the environment]
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable
from enum import Enum
from typing import TypeVar

from mirabelle.errors import MirabelleError, TransientError

T = TypeVar("T")

PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 10.0


class Fault(Enum):
    """Kinds of errors, by what is to be done about them."""

    TRANSIENT = "try again"
    EXPIRED = "try again with new credentials"
    MISSING = "no such object"
    DENIED = "not this object, or not this bucket"
    CHANGED = "a condition did not hold"
    BUCKET = "nothing here will work"
    OURS = "no fault of the store"


# The codes of S3's own list of error responses, and MinIO's.
_BY_CODE = {
    **dict.fromkeys(("ExpiredToken", "TokenRefreshRequired", "ExpiredTokenException", "RequestExpired"), Fault.EXPIRED),
    # The answer to a HEAD has no body: of what is behind a bare 400, this alone can be mended here.
    "400": Fault.EXPIRED,
    **dict.fromkeys(("NoSuchKey", "NoSuchVersion", "404", "NotFound", "MethodNotAllowed"), Fault.MISSING),
    # Names that no object there can have.
    **dict.fromkeys(("KeyTooLongError", "XMinioInvalidObjectName"), Fault.MISSING),
    **dict.fromkeys(("AccessDenied", "403", "Forbidden", "AllAccessDisabled", "InvalidObjectState"), Fault.DENIED),
    **dict.fromkeys(("PreconditionFailed", "412", "ConditionalRequestConflict"), Fault.CHANGED),
    **dict.fromkeys(("NoSuchBucket", "InvalidBucketName", "InvalidAccessKeyId", "SignatureDoesNotMatch"), Fault.BUCKET),
    **dict.fromkeys(
        ("RequestTimeTooSkewed", "InvalidToken", "InvalidTokenId", "AccountProblem", "NoCredentials"), Fault.BUCKET
    ),
    **dict.fromkeys(("PermanentRedirect", "AuthorizationHeaderMalformed", "301", "307", "401"), Fault.BUCKET),
    **dict.fromkeys(("IllegalLocationConstraintException", "InvalidRequest", "NotImplemented"), Fault.BUCKET),
    **dict.fromkeys(("XAmzContentSHA256Mismatch", "KMS.DisabledException", "QuotaExceeded"), Fault.BUCKET),
    "ParamValidationError": Fault.OURS,
    **dict.fromkeys(("XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "507"), Fault.BUCKET),
}
_WHAT = {
    "NoSuchBucket": "there is no bucket of that name; create it, or mend the name or the endpoint",
    "404": "there is no such thing at this endpoint; mend the bucket's name, AWS_ENDPOINT_URL or s3.endpoint",
    "KeyTooLongError": "no object can have so long a name; give a shorter one",
    "XMinioInvalidObjectName": "no object there can have such a name; give another",
    "InvalidBucketName": "that is no name a bucket can have; mend it",
    "InvalidAccessKeyId": "the store does not know these credentials; check which ones AWS's default chain finds here",
    "401": "the store does not know these credentials; check which ones AWS's default chain finds here",
    "SignatureDoesNotMatch": "the secret key does not fit the access key; check the credentials",
    "RequestTimeTooSkewed": "this machine's clock is too far from the store's; set it right",
    "InvalidToken": "the session token is not valid; renew the credentials",
    "InvalidTokenId": "the session token is not valid; renew the credentials",
    "NoCredentials": "there are no credentials here: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or a profile, or"
    " give the machine a role, or name the bucket in s3.anonymous",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION or s3.region to its own",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set AWS_REGION or s3.region to its own",
    "IllegalLocationConstraintException": "the bucket is in another region; set AWS_REGION or s3.region to its own",
    "301": "the bucket is in another region; set AWS_REGION or s3.region to its own",
    "XMinioStorageFull": "the store is full; make room",
    "507": "the store is full; make room",
    "QuotaExceeded": "the bucket's quota is used up; make room",
    "XMinioAdminBucketQuotaExceeded": "the bucket's quota is used up; make room",
    "ExpiredToken": "the credentials have expired and were not renewed; renew them",
    "NotImplemented": "the store cannot do what was asked of it (conditional puts are needed)",
}
_DENIED = "these credentials may not; allow it in their policy or the bucket's, or take others"


def code_of(error: BaseException) -> str:
    """The store's own code for an error, or the name of what went wrong on the way to it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:  # botocore's ClientError
        return str(response["Error"].get("Code", "")) or str(response["ResponseMetadata"]["HTTPStatusCode"])
    name, text = type(error).__name__, str(error)
    if name in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"):
        return "NoCredentials"
    if name == "ParamValidationError" and "bucket name" in text:
        return "InvalidBucketName"
    if "NoCredentialsError" in text:  # what obstore's call for credentials met
        return "NoCredentials"
    # obstore's errors hold the response's body or status as text.
    found = re.search(r"<Code>(\w+(?:\.\w+)*)</Code>", text) or re.search(r"status code: (\d{3})", text)
    if found:
        return found[1]
    return {"PreconditionError": "412", "FileNotFoundError": "404", "PermissionDeniedError": "403"}.get(name, name)


def judge(error: BaseException) -> Fault:
    """What kind of error it is; one of the store's or the network's that is not known is worth another attempt."""
    theirs = type(error).__module__.startswith(("botocore", "urllib3", "obstore", "http"))
    # A network's errors name no file, and one of this machine's disk does.
    if not theirs and not (isinstance(error, OSError) and error.filename is None):
        return Fault.OURS
    return _BY_CODE.get(code_of(error), Fault.TRANSIENT)


def explain(error: BaseException, bucket: str, action: str) -> str:
    """One sentence that names bucket and action, and the way out."""
    code = code_of(error)
    what = _WHAT.get(code) or (_DENIED if judge(error) is Fault.DENIED else "")
    if not what and is_unreachable(error):
        what = f"its endpoint does not answer; check AWS_ENDPOINT_URL or s3.endpoint, and the network{_proxies()}"
    if not what:
        what = f"the store answers {code}; try again later, or ask those who keep it"
    return f"cannot {action} the bucket {bucket}: {what} ({code})"


def _proxies() -> str:
    """The proxies that requests may go by, as the end of a sentence; without the passwords in them."""
    named = {name: url for name in PROXIES if (url := os.environ.get(name))}
    bare = {name: re.sub(r"//[^/@]*@", "//", url) for name, url in named.items()}
    return "".join(f", and the proxy {url} that {name} names" for name, url in bare.items())


def is_unreachable(error: BaseException) -> bool:
    """Whether no server answered at all: refused, no such host."""
    text = str(error).lower()
    names = (
        "EndpointConnectionError",
        "ProxyConnectionError",
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "ReadTimeoutError",
    )
    return type(error).__name__ in names or "error sending request" in text or "error trying to connect" in text


def retry(call: Callable[[], T], attempts: int, renew: Callable[[], None], seed: random.Random | None = None) -> T:
    """Call until it works, with full jitter between attempts (Brooker 2015, Exponential Backoff And Jitter).

    Args:
        call: one attempt.
        attempts: at most.
        renew: forgets credentials that have expired.
        seed: of the jitter.

    Raises:
        TransientError: it never worked; its cause is the last error.
        Exception: the first error that another attempt cannot mend, as it came.
    """
    draw = seed or random
    for attempt in range(attempts):
        try:
            return call()
        except MirabelleError:
            raise
        except Exception as error:  # judged, and raised again unless it is worth another attempt
            fault = judge(error)
            if fault is Fault.EXPIRED:
                renew()
            elif fault is not Fault.TRANSIENT:
                raise
            if attempt == attempts - 1:
                raise TransientError(f"{code_of(error)} after {attempts} attempts") from error
        time.sleep(draw.uniform(0, min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2**attempt)))
    raise AssertionError("attempts is at least 1")
