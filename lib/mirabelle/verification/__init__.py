"""Whether what an output holds agrees with itself: manifests, rows, rejects, markers, footers. Driver only; no Spark.

Reads alone, and only through a ``Store``; every finding is a sentence that says what is wrong.
"""

from mirabelle.verification.checking import Verification, verify

__all__ = ["Verification", "verify"]
