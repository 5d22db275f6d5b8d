"""The files connector on real files: nothing lost, nothing stopped by a broken line, nothing read twice."""

from __future__ import annotations

import json
import os
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb
import pydantic
import pytest

from connectors.contract import Context, Cursor, Page, RawRecord, Source, Stream, Window
from connectors.errors import ConnectorError
from connectors.generic import files, rows

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
UNTIL = datetime(2026, 2, 1, tzinfo=UTC)


def source(folder: Path, **options) -> files.Files:
    context = Context("crm export", ZoneInfo("Europe/Warsaw"), folder, http=None)
    return files.Files(files.Options.model_validate(options), context)


def pages(reader: files.Files, state: dict | None = None, stream: str = "leads") -> list[Page]:
    cursor = None if state is None else Cursor(state=state)
    return list(reader.read(stream, Window(SINCE, UNTIL, cursor)))


def records(read: list[Page]) -> list[RawRecord]:
    return [record for page in read for record in page.records]


def bodies(read: list[Page]) -> list[dict]:
    return [json.loads(record.body) for record in records(read)]


def test_declares_the_stream_of_the_options():
    options = files.Options(path="x.csv", stream="orders")
    assert files.Files.streams(options) == (Stream("orders"),)
    assert files.CONNECTOR.streams == ()
    assert isinstance(source(Path(), path="x.csv"), Source)


def test_csv_row_becomes_an_object_in_the_order_of_the_columns(tmp_path):
    (tmp_path / "leads.csv").write_text('id,name,note\n7,"Nowak, Anna","two\nlines"\n8,Jan,\n')
    read = pages(source(tmp_path, path="leads.csv", id="id"))
    first, second = records(read)
    assert first.body == b'{"id":"7","name":"Nowak, Anna","note":"two\\nlines"}'
    assert (first.external_id, second.external_id) == ("7", "8")
    assert first.context == {"file": "leads.csv", "line": 2}
    assert second.context == {"file": "leads.csv", "line": 4}


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_delimiter_is_told_by_the_header(tmp_path, mark):
    (tmp_path / "a.csv").write_text(mark.join("abc") + "\n" + mark.join("123") + "\n")
    assert bodies(pages(source(tmp_path, path="a.csv"))) == [{"a": "1", "b": "2", "c": "3"}]


def test_delimiter_of_the_options_wins(tmp_path):
    (tmp_path / "a.csv").write_text("a,b;c,d\n1,2;3,4\n")
    assert bodies(pages(source(tmp_path, path="a.csv", delimiter=";"))) == [{"a,b": "1,2", "c,d": "3,4"}]


def test_encoding_and_byte_order_mark(tmp_path):
    (tmp_path / "a.csv").write_bytes("imię\nŁucja\n".encode("cp1250"))
    (tmp_path / "b.csv").write_bytes("\ufeffimię\r\nŁucja\r\n".encode())
    assert bodies(pages(source(tmp_path, path="a.csv", encoding="cp1250"))) == [{"imię": "Łucja"}]
    assert bodies(pages(source(tmp_path, path="b.csv"))) == [{"imię": "Łucja"}]


def test_broken_csv_lines_are_kept_as_they_are_and_stop_nothing(tmp_path):
    (tmp_path / "a.csv").write_bytes(
        b'id,name\n1,Anna\n2,too,many\n3\n4,Kr\xf3l\n\n5,"no end\n6,Ewa\n7,"bad"quote\n8,Ola\n'
    )
    read = records(pages(source(tmp_path, path="a.csv", id="id")))
    broken = {record.body: record.context["broken"] for record in read if "broken" in record.context}
    assert list(broken) == [b"2,too,many", b"3", b"4,Kr\xf3l", b'5,"no end', b'7,"bad"quote']
    assert broken[b"2,too,many"] == "3 columns, but the header has 2"
    assert broken[b"4,Kr\xf3l"] == "not utf-8"
    assert [record.external_id for record in read if "broken" not in record.context] == ["1", "6", "8"]
    assert [record.context["line"] for record in read] == [2, 3, 4, 5, 7, 8, 9, 10]
    assert len({record.external_id for record in read}) == 8


def test_a_line_without_an_end_is_cut_and_the_next_is_read(tmp_path):
    long = "x" * (rows.LINE_MAX * 2 + 10)
    (tmp_path / "a.csv").write_text(f"id,name\n1,{long}\n2,Ewa\n")
    (tmp_path / "a.jsonl").write_text(f'{{"id": "{long}"}}\n{{"id": 2}}\n')
    for name in ("a.csv", "a.jsonl"):
        cut, good = records(pages(source(tmp_path, path=name, id="id")))
        assert len(cut.body) == rows.CUT_KEPT
        assert "too long" in cut.context["broken"]
        assert good.external_id == "2"


def test_empty_files_have_no_rows(tmp_path):
    for name in ("a.csv", "b.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "c.csv").write_text("id,name\n")
    read = pages(source(tmp_path, path="."))
    assert records(read) == []
    assert set(read[-1].cursor.state) == {"a.csv", "b.jsonl", "c.csv"}


def test_json_lines_keep_their_bytes(tmp_path):
    line = b'{ "total": 1.10, "customer": {"id": 5}, "name": "\xc5\x81ucja" }'
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + line + b'\r\n\n[1]\n{"customer":\n{"x": "\xff"}\n')
    good, *broken = records(pages(source(tmp_path, path="a.jsonl", id="customer.id")))
    assert good.body == line
    assert good.external_id == "5"
    assert [record.body for record in broken] == [b"[1]", b'{"customer":', b'{"x": "\xff"}']
    assert [record.context["line"] for record in broken] == [3, 4, 5]
    assert broken[0].context["broken"] == "not a JSON object"
    assert all(record.context["broken"].startswith("not JSON") for record in broken[1:])


def test_parquet_keeps_types_and_exact_values(tmp_path):
    path = tmp_path / "orders.parquet"
    duckdb.execute("SET TimeZone='America/New_York'")
    duckdb.execute(
        """COPY (SELECT 12345678901234567.89::DECIMAL(38,2) AS total, DATE '2026-03-29' AS day, 7 AS n,
        TIMESTAMPTZ '2026-03-29 01:30:00.5+00' AS at, TIMESTAMP '2026-03-29 02:30:00' AS local, true AS paid,
        1.5::DOUBLE AS rate, 'Ł' AS name, NULL::VARCHAR AS none, [{'sku': 'A', 'qty': 2}] AS lines,
        '\\xAA'::BLOB AS raw, uuid '00000000-0000-0000-0000-000000000001' AS key)
        TO $path (FORMAT parquet)""",
        {"path": str(path)},
    )
    (record,) = records(pages(source(tmp_path, path="*.parquet", id=["n", "key"], version="at")))
    assert json.loads(record.body) == {
        "total": "12345678901234567.89",
        "day": "2026-03-29",
        "n": 7,
        "at": "2026-03-29T01:30:00.5Z",
        "local": "2026-03-29T02:30:00",
        "paid": True,
        "rate": 1.5,
        "name": "Ł",
        "none": None,
        "lines": [{"sku": "A", "qty": 2}],
        "raw": "\\xAA",
        "key": "00000000-0000-0000-0000-000000000001",
    }
    assert record.external_id == "7|00000000-0000-0000-0000-000000000001"
    assert record.version == datetime(2026, 3, 29, 1, 30, 0, 500000, tzinfo=UTC)


def test_parquet_is_read_in_pages(tmp_path):
    path = tmp_path / "many.parquet"
    duckdb.execute(
        "COPY (SELECT range AS id FROM range(4500)) TO $path (FORMAT parquet)", {"path": str(path)}
    )
    read = pages(source(tmp_path, path="many.parquet", id="id"))
    assert [len(page.records) for page in read] == [2000, 2000, 500]
    assert [record.external_id for record in records(read)] == [str(n) for n in range(4500)]


def test_pages_are_bounded_and_only_the_end_of_a_file_moves_the_cursor(tmp_path):
    (tmp_path / "a.csv").write_text("id\n" + "".join(f"{n}\n" for n in range(4100)))
    read = pages(source(tmp_path, path="a.csv", id="id"))
    assert [len(page.records) for page in read] == [2000, 2000, 100]
    assert [page.cursor is None for page in read] == [True, True, False]
    assert len({record.external_id for record in records(read)}) == 4100


def test_pages_are_bounded_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PAGE_BYTES_MAX", 1000)
    (tmp_path / "a.jsonl").write_text("".join(f'{{"x": "{"y" * 400}", "n": {n}}}\n' for n in range(9)))
    read = pages(source(tmp_path, path="a.jsonl"))
    assert [len(page.records) for page in read] == [3, 3, 3, 0]


def test_memory_does_not_grow_with_the_file(tmp_path):
    with (tmp_path / "big.csv").open("w") as file:
        file.write("id,name\n")
        file.writelines(f"{n},{'x' * 200}\n" for n in range(100_000))
    reader = source(tmp_path, path="big.csv", id="id")
    tracemalloc.start()
    count = sum(len(page.records) for page in reader.read("leads", Window(SINCE, UNTIL)))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 100_000
    assert peak_bytes < 12 << 20


def test_only_new_and_changed_files_are_read_again(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(f"id\n{name}\n")
    reader = source(tmp_path, path="*.csv", id="id")
    state = pages(reader)[-1].cursor.state
    assert pages(reader, state) == []

    (tmp_path / "b.csv").write_text("id\nb\nb2\n")
    (tmp_path / "c.csv").write_text("id\nc\n")
    (tmp_path / "a.csv").unlink()
    read = pages(reader, state)
    assert [record.external_id for record in records(read)] == ["b", "b2", "c"]
    after = read[-1].cursor.state
    assert set(after) == {"a.csv", "b.csv", "c.csv"}
    assert after["a.csv"] == state["a.csv"]
    assert pages(reader, after) == []


def test_a_file_written_again_with_the_same_content_is_not_read_again(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id\n1\n")
    reader = source(tmp_path, path="a.csv")
    state = pages(reader)[-1].cursor.state
    os.utime(path, ns=(1, 1))
    (page,) = pages(reader, state)
    assert page.records == []
    assert page.cursor.state["a.csv"] == [5, 1, state["a.csv"][2]]


def test_a_file_that_grows_while_it_is_read_is_read_again_next_time(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id\n" + "".join(f"{n}\n" for n in range(3000)))
    reader = source(tmp_path, path="a.csv", id="id")
    read = reader.read("leads", Window(SINCE, UNTIL))
    next(read)
    with path.open("a") as file:
        file.write("late\n")
    rest = list(read)
    assert all(page.cursor is None or "a.csv" not in page.cursor.state for page in rest)
    assert "late" in {record.external_id for record in records(pages(reader, {}))}


def test_all_files_gone_is_no_mistake_once_they_were_read(tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "a.csv"
    path.write_text("id\n1\n")
    for pattern in ("in/a.csv", "in", "in/*.csv", "**/a.csv"):
        path.write_text("id\n1\n")
        reader = source(tmp_path, path=pattern)
        state = pages(reader)[-1].cursor.state
        path.unlink()
        assert pages(reader, state) == []
        with pytest.raises(ConnectorError, match="no file matches"):
            pages(reader, {"other.txt": [1, 1, "x"]})


def test_a_path_that_matches_nothing_says_where_it_looked(tmp_path):
    with pytest.raises(ConnectorError) as caught:
        pages(source(tmp_path, path="exports/*.csv"))
    assert caught.value.kind == "config"
    assert str(tmp_path) in caught.value.hint


def test_a_folder_gives_the_files_of_known_endings(tmp_path):
    for name in ("b.CSV", "a.jsonl", "note.txt", ".hidden.csv"):
        (tmp_path / name).write_text('{"id": "1"}\n')
    read = pages(source(tmp_path, path="."))
    assert set(read[-1].cursor.state) == {"b.CSV", "a.jsonl"}
    only = pages(source(tmp_path, path=".", format="jsonl"))
    assert set(only[-1].cursor.state) == {"a.jsonl"}


def test_one_unusable_file_does_not_stop_the_others(tmp_path):
    (tmp_path / "a.csv").write_text("id,id\n1,2\n")
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    (tmp_path / "c.csv").write_text("Id\n1\n")
    (tmp_path / "d.csv").write_text("id\n1\n")
    seen: list[Page] = []
    with pytest.raises(ConnectorError) as caught:
        seen.extend(source(tmp_path, path=".", id="id").read("leads", Window(SINCE, UNTIL)))
    seen = []
    read = source(tmp_path, path=".", id="id").read("leads", Window(SINCE, UNTIL))
    seen.append(next(read))
    assert [record.external_id for record in records(seen)] == ["1"]
    assert set(seen[-1].cursor.state) == {"d.csv"}
    message = caught.value.message
    assert "3 file(s)" in message
    assert "a.csv: the header has a column twice: id" in message
    assert "b.parquet: cannot be read as Parquet" in message
    assert "did you mean 'Id'?" in message


def test_external_id_is_the_content_without_id_columns_or_values(tmp_path):
    (tmp_path / "a.csv").write_text("id,name\n1,A\n,B\n2,C\n")
    with_id = [record.external_id for record in records(pages(source(tmp_path, path="a.csv", id="id")))]
    without = [record.external_id for record in records(pages(source(tmp_path, path="a.csv")))]
    assert (with_id[0], with_id[2]) == ("1", "2")
    assert with_id[1] == without[1]
    assert len(set(without)) == 3


def test_ids_of_several_columns_cannot_be_confused(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\na|b,c\na,b|c\n")
    read = records(pages(source(tmp_path, path="a.csv", id=["x", "y"])))
    assert len({record.external_id for record in read}) == 2


def test_version_without_offset_is_in_the_zone_of_the_workspace(tmp_path):
    (tmp_path / "a.csv").write_text(
        "id;changed\n1;2026-07-01 12:00:00\n2;2026-07-01T12:00:00+00:00\n3;2026-07-01\n4;soon\n"
    )
    read = records(pages(source(tmp_path, path="a.csv", id="id", version="changed")))
    assert [record.version for record in read] == [
        datetime(2026, 7, 1, 10, tzinfo=UTC),
        datetime(2026, 7, 1, 12, tzinfo=UTC),
        datetime(2026, 6, 30, 22, tzinfo=UTC),
        None,
    ]


def test_another_stream_is_refused(tmp_path):
    with pytest.raises(ConnectorError, match="no stream 'orders'"):
        pages(source(tmp_path, path="a.csv"), stream="orders")


def test_check_names_each_file_that_cannot_be_used(tmp_path):
    (tmp_path / "a.csv").write_text("id\n1\n")
    (tmp_path / "b.csv").write_text("no\n1\n")
    findings = source(tmp_path, path="*.csv", id="id").check()
    assert [(finding.what, finding.ok) for finding in findings] == [
        ("2 file(s) of *.csv", True),
        ("a.csv", True),
        ("b.csv", False),
    ]
    assert "there is no column 'id'" in findings[2].hint
    (missing,) = source(tmp_path, path="nothing").check()
    assert not missing.ok


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoding": "utf-16"},
        {"encoding": "nonsense"},
        {"delimiter": "||"},
        {"stream": "A b"},
        {"colour": "red"},
    ],
)
def test_wrong_options_are_refused(wrong):
    with pytest.raises(pydantic.ValidationError):
        files.Options.model_validate({"path": "x", **wrong})
