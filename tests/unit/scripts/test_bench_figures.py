"""The benchmark's arithmetic, and that a target has its line whatever was measured."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

BENCH = Path(__file__).parents[3] / "scripts" / "bench"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The scripts' modules, which find each other beside themselves."""
    monkeypatch.syspath_prepend(str(BENCH))
    names = (
        "steady",
        "line",
        "cells",
        "serve_figures",
        "serve_targets",
        "targets",
        "table",
        "sides",
        "features",
        "inputs",
        "bound",
        "estimate",
        "bench",
        "rounds",
    )
    yield {name: importlib.import_module(name) for name in names}
    for name in (*names, "machine"):
        sys.modules.pop(name, None)


def row(few: float, many: float, bound: float = 50.0) -> dict:
    workers = {"engine": 8.0, "decode": 1.0, "waiting for the store": 0.0, "write": 0.0}
    twice = {part: 2 * seconds for part, seconds in workers.items()}
    stages = {"session": 5.0, "embed": many - 7.0}
    return {
        "few_seconds": few,
        "many_seconds": many,
        "bounds": [bound - 1, bound + 1],
        "few_workers": workers,
        "many_workers": twice,
        "few_stages": stages,
        "many_stages": stages,
    }


def entry(side: str, precision: str, *rounds: dict, cosine: float = 1.0, many: int = 5000) -> dict:
    return {
        "side": side,
        "precision": precision,
        "few": many - 240,
        "many": many,
        "told": "as it is | plainly",
        "versions": {},
        "rounds": list(rounds),
        "lowest_cosine": cosine,
        "lowest_centred": cosine,
    }


def results(**parts: dict) -> dict:
    return {
        "machine": {"CPU": "one"},
        "cores": 2,
        "native": ["float32", "bf16"],
        "amx": False,
        "short": False,
        "parts": parts,
    }


def comparison(*entries: dict, backbone: str = "resnet50") -> dict:
    return {
        "backbone": backbone,
        "weights": "random:0",
        "input": "a",
        "source": "given",
        "entries": list(entries),
    }


def test_steady_speed_leaves_the_start_out(bench: dict[str, ModuleType]) -> None:
    # 7 s to start, then 50 a second
    assert bench["steady"].steady(100, 300, 9.0, 13.0) == 50
    assert bench["steady"].steady(100, 300, 9.0, 9.0) is None


def test_spread(bench: dict[str, ModuleType]) -> None:
    found = bench["steady"].spread([3.0, None, 1.0, 2.0])
    assert (found.median, found.low, found.high) == (2, 1, 3)
    assert found.text(1) == "2.0 (1.0 to 3.0)"
    assert bench["steady"].spread([None]) is None


def test_an_entry_in_figures(bench: dict[str, ModuleType]) -> None:
    one = entry("Mirabelle", "float32", row(10, 16, 50), row(10, 15, 50), row(10, 15, 40))
    summary = bench["steady"].summarise(one)
    assert [summary.steady.low, summary.steady.median, summary.steady.high] == [40, 48, 48]
    # A start that stalls does not make its round look fast.
    stalled = bench["steady"].summarise(entry("Mirabelle", "float32", row(10, 16), row(14, 15), row(10, 15)))
    assert [stalled.steady.low, stalled.steady.median, stalled.steady.high] == [40, 48, 48]
    assert [summary.bound.low, summary.bound.high] == [39, 51]
    assert summary.efficiency.median == pytest.approx(48 / 50)
    assert summary.efficiency.high == pytest.approx(48 / 40)
    assert summary.over_bound.low == pytest.approx(15 * 40 / 5000)
    # of 10 to 12 core-seconds more, 8 in the engine and 1 in decoding
    shares = bench["steady"].core_shares(entry("Mirabelle", "float32", row(10, 15)), cores=2)
    assert shares == pytest.approx({"engine": 0.8, "decode": 0.1, "waiting for the store": 0, "write": 0, "other": 0.1})


def test_targets_are_judged(bench: dict[str, ModuleType]) -> None:
    ours = [entry("Mirabelle", "float32", row(10, 15)), entry("Mirabelle", "bf16", row(10, 12.5, 100))]
    slow, quick = entry("Notebook-style", "float32", row(10, 22), many=500), entry("Quick", "float32", row(10, 14))
    wrong = entry("Wrong", "float32", row(10, 11), cosine=0.5)
    made = results(
        **{
            "extract-a": {"comparisons": [comparison(*ours)]},
            "peers": {"comparisons": [comparison(*ours, slow, quick, wrong)]},
        }
    )
    verdicts = {line.what: (line.figure, line.verdict) for line in bench["targets"].lines(made)}
    assert verdicts["efficiency of extract on (a), resnet50, float32"] == ("0.96", "met")
    assert verdicts["efficiency of extract on (a), resnet50, auto"] == ("0.96", "met")
    assert verdicts["whole time for 5,000 of (a), resnet50, float32, over images / bound"] == ("0.15", "met")
    assert verdicts["times the notebook-style job's speed on (a), resnet50, float32"] == ("2.40", "not met")
    assert verdicts["times the notebook-style job's speed on (a), resnet50, auto"] == (
        "4.80",
        "not judged: no AMX here",
    )
    assert bench["targets"].whole_note(ours[0], slow) == ""
    as_many = entry("Notebook-style", "float32", row(10, 45))
    assert bench["targets"].whole_note(ours[0], as_many) == "3.00 on 5,000 from start to end"
    assert verdicts["times the speed of Quick on (a), resnet50, auto"] == ("1.60", "met, in one round")
    assert verdicts["times the speed of Quick on (a), resnet50, float32"] == ("0.80", "not met, in one round")
    assert verdicts["times the speed of Wrong on (a), resnet50, float32"][1].startswith("counts for nothing")
    unmet = [line for line in bench["targets"].lines(made) if line.verdict.startswith("not met")]
    assert all("of the cores' time: engine 80.0%, decode 10.0%" in line.why for line in unmet)
    assert "as it is \\| plainly" not in bench["table"].targets(made)
    assert bench["table"].markdown(made).count("\n### ") == 3


def test_ahead_is_said_where_the_rounds_agree(bench: dict[str, ModuleType]) -> None:
    # 40 images a second three times; beside it 20, and then one that is as fast but for the noise.
    ours = entry("Mirabelle", "bf16", *[row(10, 16)] * 3)
    slow = entry("Slow", "bf16", *[row(10, many) for many in (22, 22.1, 21.9)])
    like = entry("Like", "bf16", *[row(10, many) for many in (15.8, 16.3, 16.1)])
    quick = entry("Quick", "bf16", *[row(10, many) for many in (14, 14.1, 14)])
    made = results(peers={"comparisons": [comparison(ours, slow, like, quick)]})
    found = {line.what: line for line in bench["targets"].lines(made)}
    what = "times the speed of {} on (a), resnet50, auto"
    assert found[what.format("Slow")].verdict == "met"
    assert found[what.format("Slow")].figure == "2.00 (1.96 to 2.04)"
    assert found[what.format("Like")].verdict == "level: the interval has 1"
    assert found[what.format("Quick")].verdict == "not met"
    assert found[what.format("Quick")].why.startswith("of the cores' time")


def test_starts_that_differ_widen_the_interval(bench: dict[str, ModuleType]) -> None:
    steady = bench["steady"]
    ours = entry("Mirabelle", "bf16", *[row(10, 16), row(10, 16.1), row(10, 15.9)])
    sure, unsure = (
        entry("Slow", "bf16", *[row(few, many) for few, many in zip(starts, (22, 22.1, 21.9), strict=True)])
        for starts in ((10, 10, 10), (9, 10, 11))
    )
    assert steady.start_error(sure) == 0
    # The median of three that are a second apart, of what takes twelve.
    assert steady.start_error(unsure) == pytest.approx(1.2533 * 1.4826 / 3**0.5 / 12, rel=1e-3)
    narrow, wide = (steady.times_as_fast(ours, other) for other in (sure, unsure))
    assert narrow.median == wide.median == pytest.approx(2)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_photographs_are_held_against_engine_and_huffman_decoding(bench: dict[str, ModuleType]) -> None:
    # 48 images a second where two cores' engine does 50: 40 core-ms each, of which 10 of Huffman decoding leave 0.8.
    ours = {"comparisons": [comparison(entry("Mirabelle", "float32", row(10, 15)))]}
    huffman = {"input": "b", "decoder": "Huffman decoding alone", "core_ms": [10.0], "apart": None}
    made = results(**{"extract-b": ours, "extract-c": ours, "decode": {"rows": [huffman]}})
    verdicts = {line.what: (line.figure, line.verdict) for line in bench["targets"].lines(made)}
    what = "extract on ({}) over engine and Huffman decoding, resnet50, float32"
    assert verdicts[what.format("b")] == ("1.20", "not judged: more than the bound, which noise alone can be")
    assert verdicts[what.format("c")] == ("", "not run: the part decode was left out")
    shown = bench["table"].markdown(made)
    assert "| 0.96 | 1.20 |" in shown
    assert "| Huffman decoding alone | 10.00 |  |  |" in shown


def test_every_target_has_a_line_where_nothing_was_measured(bench: dict[str, ModuleType]) -> None:
    lines = bench["targets"].lines(results())
    assert len(lines) == 12 + 8 + 2 + 4 + 6 + 3 + 2 + 1 + 13 + 2
    assert all(line.verdict.startswith("not run: ") for line in lines)


def test_the_lines_of_pca_are_its_own(bench: dict[str, ModuleType]) -> None:
    target = {"name": "PCA: times as fast", "target": ">= 25", "figure": 12.3456, "met": False, "note": "2 rounds"}
    side = {"seconds": [1.0, 2.0], "median": 1.5, "angle": 1e-9, "variance": 0.0}
    made = results(pca={"targets": [target], "sides": {"Mirabelle": side}, "rows": 9, "columns": 3, "components": 2})
    line = next(line for line in bench["targets"].lines(made) if line.what == target["name"])
    assert (line.figure, line.verdict, line.why) == ("12.3", "not met", "2 rounds")
    assert "| Mirabelle | 1.50 (1.00 to 2.00) | 1e-09 |" in bench["table"].markdown(made)


def served(speed: float, others: float, decode_core_seconds: float = 0.01) -> dict:
    """The server at 1 and 8 clients, and a peer; the engine does 50 before each loop and 150 after it."""

    def loops(speed: float) -> list[dict]:
        one = {"engine": [50.0, 150.0], "p99_seconds": 0.2}
        return [
            {**one, "clients": 1, "speed": 10.0, "p50_seconds": 0.0225},
            {**one, "clients": 8, "speed": speed, "p50_seconds": 0.1},
        ]

    return {
        "network": "resnet50",
        "precision": "bf16",
        "pictures": "300 KB",
        "bytes": 300_000,
        "layout": "batch 8",
        "decode_core_seconds": decode_core_seconds,
        "alone_seconds": [0.02],
        "sides": {
            "Mirabelle": {"ready_seconds": 2.0, "resident_mib": 400.0, "version": "", "loops": loops(speed)},
            "BentoML": {"ready_seconds": 9.0, "resident_mib": 600.0, "version": "1.4", "loops": loops(others)},
        },
    }


def test_the_server_is_held_against_engine_bound_and_peer(bench: dict[str, ModuleType]) -> None:
    # 1 / (1 / 100 + 0.01 / 2): two cores of which decoding takes a third, so that 66.7 would be all.
    made = results(serve={"cores": 2, "entries": [served(60.0, 40.0)]})
    found = {line.what: line for line in bench["targets"].lines(made)}
    line = found["served at 8 clients over the engine alone, resnet50, 300 KB, auto"]
    assert (line.figure, line.verdict) == ("0.60", "not met")
    assert line.why == "0.90 of engine and decoding on these cores, which alone would be 0.67; at 1 client 0.10"
    line = found["milliseconds that the server adds at 1 client, resnet50, 300 KB, auto"]
    assert (line.figure, line.verdict) == ("2.50", "met")
    line = found["times the pictures/s of BentoML at 8 clients, resnet50, 300 KB, auto"]
    assert (line.figure, line.verdict, line.why) == ("1.50", "met", "BentoML 1.4")
    assert found["seconds until the server is ready"].figure == "2.0"
    assert found["served at 8 clients over the engine alone, resnet50, 300 KB, float32"].verdict.startswith("not run")
    text = bench["table"].markdown(made)
    assert "| resnet50 | bf16 | 300 KB, 300 KB | BentoML 1.4 | 8 | 40.0 | 0.40 | 0.60 | 100.0 | 200.0 |  |" in text
    assert "- **BentoML**: ready after 9.0 s; 600 MiB resident at the end" in text


def test_a_server_that_refuses_one_load_keeps_its_other_figures(bench: dict[str, ModuleType]) -> None:
    entry = served(60.0, 40.0)
    one, eight = entry["sides"]["Mirabelle"]["loops"]
    refused = {"clients": 8, "engine": [50.0, 150.0], "refused": "503 busy"}
    # Two rounds, of which the first has no answer at 1 client, and neither has one at 64.
    entry["alone_seconds"] = [0.001, 0.02]
    entry["sides"]["Mirabelle"]["loops"] = [{**refused, "clients": 1}, eight, one, eight]
    entry["sides"]["Mirabelle"]["loops"] += [{**refused, "clients": 64}] * 2
    made = results(serve={"cores": 2, "entries": [entry]})
    found = {line.what: line for line in bench["targets"].lines(made)}
    line = found["served at 8 clients over the engine alone, resnet50, 300 KB, auto"]
    assert (line.figure, line.verdict) == ("0.60", "not met")
    assert line.why.endswith("at 1 client 0.10; not run: Mirabelle refused 64 clients: 503 busy")
    assert found["milliseconds that the server adds at 1 client, resnet50, 300 KB, auto"].figure == "2.50"
    assert "| Mirabelle | 64 | not run: Mirabelle refused 64 clients: 503 busy |" in bench["table"].markdown(made)
    entry["sides"]["Mirabelle"]["loops"] = [one, refused]
    found = {line.what: line for line in bench["targets"].lines(made)}
    for what in ("served at 8 clients over the engine alone", "times the pictures/s of BentoML at 8 clients"):
        line = found[f"{what}, resnet50, 300 KB, auto"]
        assert (line.figure, line.verdict) == ("", "not run: Mirabelle refused 8 clients: 503 busy")
    # The peer's refusal is its own.
    entry["sides"]["Mirabelle"]["loops"], entry["sides"]["BentoML"]["loops"] = [one, eight], [one, refused]
    found = {line.what: line for line in bench["targets"].lines(made)}
    assert found["served at 8 clients over the engine alone, resnet50, 300 KB, auto"].figure == "0.60"
    line = found["times the pictures/s of BentoML at 8 clients, resnet50, 300 KB, auto"]
    assert (line.figure, line.verdict) == ("", "not run: BentoML refused 8 clients: 503 busy")


def test_features_are_compared_by_path(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    sides, features = bench["sides"], bench["features"]
    assert features.relative("file:/x/pictures/Apple%20Red/1.jpg", Path("/x/pictures")) == "Apple Red/1.jpg"
    assert features.relative("/x/pictures/Apple Red/1.jpg", Path("/x/pictures")) == "Apple Red/1.jpg"
    one, other = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    same = features.agreement({"b": other, "a": 2 * one}, {"a": one, "b": other})
    assert same.cosine == pytest.approx(1)
    assert features.agreement({"a": other, "b": one}, {"a": one, "b": other}).cosine == 0
    assert features.agreement({"a": one, "c": one}, {"b": other, "a": one}).cosine == pytest.approx(1)
    with pytest.raises(sides.CannotRun, match="have 3 numbers where Mirabelle's have 2"):
        features.agreement({"a": np.zeros(3, np.float32)}, {"a": one})


def test_features_are_of_the_pictures_that_were_asked_for(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    rounds, inputs, sides = bench["rounds"], bench["inputs"], bench["sides"]
    root = tmp_path / "root"
    some = inputs.Pictures(inputs.KINDS["a"], root, (root / "x" / "1.jpg", root / "x" / "2.jpg"), "given")
    work = sides.Work(tmp_path / "pictures", 2, "resnet50", "random:0", tmp_path, "bf16", 2, tmp_path, tmp_path)
    work.output.mkdir()

    def check(*paths: str) -> dict:
        rows = pa.array([[1.0, float(number)] for number, _ in enumerate(paths)], pa.list_(pa.float32()))
        pq.write_table(pa.table({"path": list(paths), "features": rows}), work.output / "part.parquet")
        told: dict = {}
        rounds.check_features(work, some, told, False, {"x/2.jpg": np.array([1.0, 1.0], np.float32)}, None)
        return told

    # The reference may be of more or of fewer pictures.
    assert check("x/1.jpg", "x/2.jpg")["lowest_cosine"] == pytest.approx(1)
    with pytest.raises(sides.CannotRun, match="lacks 1 of 2 pictures and has 1 that are none"):
        check("x/1.jpg", "x/3.jpg")


def test_features_are_read_from_whoever_wrote_them(bench: dict[str, ModuleType], tmp_path: Path) -> None:
    for number, paths in enumerate((["file:/p/a%20b.jpg"], [], ["/p/c.jpg"])):
        column = pa.array([[float(number), 1.0] for _ in paths], pa.list_(pa.float64()))
        table = pa.table({"path": pa.array(paths, pa.string()), "features": column})
        pq.write_table(table, tmp_path / f"part-{number}.parquet")
    found = bench["features"].read_features(tmp_path, Path("/p"))
    assert {path: row.tolist() for path, row in found.items()} == {"a b.jpg": [0, 1], "c.jpg": [2, 1]}


@pytest.mark.slow
def test_photographs_are_made_once_and_all_differ(
    bench: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = bench["inputs"]
    small = inputs.Kind("b", "small ones", 160, 100, 6_000)
    inputs.photograph(small, tmp_path, 1)
    first = (tmp_path / inputs.name(0)).read_bytes()
    quality = json.loads((tmp_path / inputs.MARKER).read_text())["quality"]
    for number in range(1, 4):
        inputs.write_photograph(small, tmp_path, quality, number)
    inputs.photograph(small, tmp_path, 4)
    contents = [path.read_bytes() for path in sorted(tmp_path.glob("*.jpg"))]
    assert contents[0] == first
    assert len(set(contents)) == 4
    assert 4_000 < sum(map(len, contents)) / 4 < 8_000


def test_few_pictures_are_spread_over_all(bench: dict[str, ModuleType]) -> None:
    inputs = bench["inputs"]
    paths = tuple(Path(f"/x/{number}.jpg") for number in range(10))
    pictures = inputs.Pictures(inputs.KINDS["a"], Path("/x"), paths, "given")
    assert [path.stem for path in pictures.spread(3).paths] == ["0", "3", "6"]
    assert pictures.spread(20).paths == paths


def test_batches_grow_while_that_is_faster(bench: dict[str, ModuleType]) -> None:
    bound = bench["bound"]
    two, streams = bound.Layout(2, 1), bound.Layout(1, 2, streams=2)

    def speeds(*found: float) -> list:
        return [bound.Speed("any", 8 * 2**number, speed) for number, speed in enumerate(found)]

    assert bound.is_worth_trying(16, two, speeds(50, 60))
    assert bound.is_worth_trying(16, streams, speeds(50, 49.5))  # no more than noise
    assert not bound.is_worth_trying(16, two, speeds(60, 50))
    assert not bound.is_worth_trying(64, two, speeds(10, 12))  # 128 pictures at once take more than ten seconds


def test_what_is_left_follows_the_pace_so_far(bench: dict[str, ModuleType]) -> None:
    now = [0.0]
    progress = bench["estimate"].Progress(3600, clock=lambda: now[0])
    assert progress.left() == "about 60 min left"
    # half of it, in twice the time
    progress.done_seconds, now[0] = 1800, 3600
    assert progress.left() == f"about {30 * (3600 + 300) / (1800 + 300):.0f} min left"
    progress.done_seconds = 3590
    assert progress.left() == "about a minute left"


def test_decoders_take_turns_and_make_a_table(
    bench: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    decode = importlib.import_module("decode")
    flags = ["decode.py", "--pictures", str(tmp_path), "--seconds", "0", "--rounds", "2", "--engine-ms", "10"]
    monkeypatch.setattr(sys, "argv", [*flags, "--ways", "JPEG progressive", "PNG"])
    assert decode.main() == 2
    assert f"there is no JPEG file in {tmp_path}" in capsys.readouterr().err
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "gradient.jpg")
    assert decode.main() == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    cells = {row[0]: row[1:] for row in rows}
    columns = [text.partition(",")[0] for text in cells["decoder"]]
    assert columns == ["as they are", "JPEG progressive", "PNG", "as they are"]
    assert all(float(cell) > 0 for name in ("Mirabelle", "Pillow") for cell in cells[name])
    assert cells["Huffman decoding alone"][2:] == ["", "1.00"]  # a PNG has none, and the bound leaves all of itself
    sys.modules.pop("decode")
