"""Whether what an output holds agrees with itself: manifests, rows, rejects, markers, footers. Driver only; no Spark.

Touches nothing but a ``Store``, and that only to read; every finding is a sentence that says what is wrong.
"""

from mirabelle.verification.checking import Verification, verify

__all__ = ["Verification", "verify"]
