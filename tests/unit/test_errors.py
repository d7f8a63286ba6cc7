import inspect
import pickle

import pytest

from mirabelle import errors
from mirabelle.errors import BarNotMet, ConfigError, DecodeError, MirabelleError, RejectCode
from mirabelle.pipeline.failures import translate

KINDS = [k for _, k in inspect.getmembers(errors, inspect.isclass) if issubclass(k, MirabelleError)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_survives_the_way_from_a_worker(kind: type[MirabelleError]) -> None:
    made = kind(RejectCode.CORRUPT, "torn") if issubclass(kind, errors.ImageError) else kind("a sentence")
    again = pickle.loads(pickle.dumps(made))
    assert type(again) is kind
    assert str(again) == str(made)
    assert vars(again) == vars(made)


def test_exit_codes() -> None:
    assert errors.UserError.exit_code == 2
    assert BarNotMet.exit_code == errors.RunFailed.exit_code == 1


def test_texts() -> None:
    assert str(DecodeError(RejectCode.EMPTY)) == "empty"
    assert str(DecodeError(RejectCode.EMPTY, "0 bytes")) == "empty: 0 bytes"
    assert str(ConfigError("one")) == "one"
    assert str(ConfigError("one", "two")) == "2 mistakes in the configuration:\n  - one\n  - two"


def test_an_error_out_of_a_worker_is_found_in_sparks_text() -> None:
    class PythonException(Exception):
        pass

    PythonException.__module__ = "pyspark.errors.exceptions.captured"
    text = "Job aborted\nTraceback:\nmirabelle.errors.OutputError: cannot write /o: No space left on device\n\tat java"
    found = translate(PythonException(text))
    assert isinstance(found, errors.OutputError)
    assert str(found) == "cannot write /o: No space left on device"
    found = translate(PythonException("Job aborted due to stage failure: ExecutorLostFailure: gone"))
    assert isinstance(found, errors.RunFailed)
    assert "ExecutorLostFailure" in str(found)
    own = ValueError("not Spark's")
    assert translate(own) is own
