"""Requests to buckets, tried again where that may help; what fails for good ends as an error of ours. [object store]"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from mirabelle.errors import FetchError, ListingError, MirabelleError, OutputError, RejectCode, TransientError
from mirabelle.storage.access import Access
from mirabelle.storage.faults import Fault, code_of, explain, judge, retry

T = TypeVar("T")

# A dead endpoint is known within two seconds, and a bucket that answers one request in ten with "slow down" is alive.
CHECK_ATTEMPTS = 5
# Denials in a row, after which it is asked whether the bucket itself is closed by now.
MANY_DENIALS = 10


class Missing(Exception):
    """No such object; never leaves the store."""


class NotDone(Exception):
    """A condition did not hold, or what was to be copied is not there; never leaves the store."""


class Requests:
    """How one set of options asks: how often, for whom, and what its buckets have denied so far."""

    def __init__(self, access: Access, attempts: int, requester_pays: bool) -> None:
        self._access = access
        self._attempts = attempts
        self._denied_in_a_row: dict[str, int] = {}
        self._requester = {"RequestPayer": "requester"} if requester_pays else {}

    def list_page(self, bucket: str, prefix: str, attempts: int | None = None, **more: Any) -> dict[str, Any]:
        """One page of a listing; raises ``ListingError``."""

        def attempt() -> dict[str, Any]:
            client = self._access.client(bucket)
            answer: dict[str, Any] = client.list_objects_v2(Bucket=bucket, Prefix=prefix, **self._requester, **more)
            return answer

        try:
            return self.ask(bucket, "list", attempt, attempts)
        except Missing as error:  # this is no S3 server
            raise ListingError(explain(error.__cause__ or error, bucket, "list")) from error.__cause__

    def pages(self, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
        """All pages of a listing, one after the other."""
        more: dict[str, Any] = {}
        while True:
            page = self.list_page(bucket, prefix, **more)
            yield page
            if not page.get("IsTruncated"):
                return
            more = {"ContinuationToken": page["NextContinuationToken"]}

    def fetch(self, bucket: str, attempt: Callable[[], T]) -> T:
        """Read one object: what it alone lacks is a ``FetchError``, what its bucket lacks a ``ListingError``."""
        try:
            answer = retry(attempt, self._attempts, self._access.renew)
        except TransientError as error:
            # Is it this object, or the whole store?
            self._check_answers(bucket)
            raise FetchError(RejectCode.UNREADABLE, f"the store answered {error}") from error
        except MirabelleError:
            raise
        except Exception as error:  # judged: each kind ends as an error of ours
            fault = judge(error)
            if fault is Fault.OURS:
                raise
            if fault is Fault.MISSING:
                raise FetchError(RejectCode.MISSING, "there is no such object now") from error
            if fault is Fault.CHANGED:
                raise FetchError(RejectCode.UNREADABLE, "changed after it was listed; the next run takes it") from error
            if fault is Fault.DENIED and self._is_open(bucket):
                raise FetchError(RejectCode.DENIED, code_of(error)) from error
            raise ListingError(explain(error, bucket, "read from")) from error
        self._denied_in_a_row[bucket] = 0
        return answer

    def _check_answers(self, bucket: str) -> None:
        """Raise ``ListingError`` where the store does not answer at all."""
        try:
            self.list_page(bucket, "", attempts=CHECK_ATTEMPTS, MaxKeys=1)
        except ListingError as error:
            # Who may read objects need not be allowed to list them.
            if judge(error.__cause__ or error) is not Fault.DENIED:
                raise

    def _is_open(self, bucket: str) -> bool:
        """After a denial: whether it is this object's alone. Reads that went well say so, or else that we may list."""
        in_a_row = self._denied_in_a_row.get(bucket, MANY_DENIALS) + 1
        self._denied_in_a_row[bucket] = in_a_row
        if in_a_row <= MANY_DENIALS:
            return True
        try:
            self.list_page(bucket, "", attempts=CHECK_ATTEMPTS, MaxKeys=1)
        except ListingError:
            return False
        self._denied_in_a_row[bucket] = 0
        return True

    def ask(self, bucket: str, action: str, attempt: Callable[[], T], attempts: int | None = None) -> T:
        """A request about a bucket; raises ``ListingError``, or ``Missing`` for an object that is not there."""
        try:
            return retry(attempt, attempts or self._attempts, self._access.renew)
        except TransientError as error:
            raise ListingError(explain(error.__cause__ or error, bucket, action)) from error
        except Exception as error:  # judged, as above
            if judge(error) is Fault.OURS:
                raise
            if judge(error) is Fault.MISSING:
                raise Missing from error
            raise ListingError(explain(error, bucket, action)) from error

    def change(self, bucket: str, attempt: Callable[[], T], expected: Sequence[Fault] = ()) -> T:
        """A request that writes; raises ``OutputError``, or ``NotDone`` for faults that are ``expected``."""
        kept = "; what was finished is kept, and the same command goes on from there"
        try:
            return retry(attempt, self._attempts, self._access.renew)
        except TransientError as error:
            raise OutputError(explain(error.__cause__ or error, bucket, "write to") + kept) from error
        except Exception as error:  # judged, as above
            fault = judge(error)
            if fault is Fault.OURS:
                raise
            if fault in expected:
                raise NotDone from error
            raise OutputError(explain(error, bucket, "write to") + kept) from error
