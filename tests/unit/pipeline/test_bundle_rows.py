"""Which columns have the labels of a stored row, and what it is called."""

import pyarrow as pa

from mirabelle.pipeline.bundle_rows import _ends, _label_columns

CHAIN = {"chain": {"columns": ["maker", "type"]}}


def test_a_chains_labels_are_found_by_whatever_name_the_configuration_had() -> None:
    assert _label_columns({"chain": None}, ["path", "label", "type"]) == ["label"]
    assert _label_columns(CHAIN, ["path", "label", "type"]) == ["label", "type"]
    assert _label_columns(CHAIN, ["path", "label", "maker"]) == ["maker", "label"]


def test_a_file_older_than_the_finer_label_has_the_coarse_one() -> None:
    rows = pa.table({"label": ["Airbus", None]})
    assert _ends(rows, _label_columns(CHAIN, rows.column_names)) == ["Airbus", None]


def test_what_has_no_finer_label_is_called_by_the_coarse_one() -> None:
    rows = pa.table({"label": ["Airbus", "Boeing", None], "type": ["A320", None, "787"]})
    assert _ends(rows, _label_columns(CHAIN, rows.column_names)) == ["Airbus / A320", "Boeing", None]
