"""Tables of Delta and Iceberg, and of a web server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from leanrec.core.errors import ConfigError, DataError
from leanrec.data.importer import import_log
from leanrec.data.sources import lakes
from unit.data.logs import CSV, TABLE, WHOLE, histories, read, sizes


def write_delta(path: Path) -> None:
    """An older version with half of the rows twice, and a newer one."""
    pytest.importorskip("deltalake", reason="needs the package deltalake")
    TABLE.head(40).write_delta(path)
    TABLE.write_delta(path, mode="overwrite")


def write_iceberg(path: Path) -> None:
    """The same; the folder is that of the table."""
    for package in ("pyiceberg", "pyarrow", "sqlalchemy"):
        pytest.importorskip(package, reason=f"needs the package {package}")
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("one", uri="sqlite:///:memory:", warehouse=f"file://{path.parent}")
    catalog.create_namespace("shop")
    table = catalog.create_table("shop.events", TABLE.to_arrow().schema, location=f"file://{path}")
    table.append(TABLE.head(40).to_arrow())
    table.overwrite(TABLE.to_arrow())


WRITE: dict[str, Callable[[Path], None]] = {"delta": write_delta, "iceberg": write_iceberg}


@pytest.mark.parametrize("form", list(WRITE))
@pytest.mark.filterwarnings("ignore")  # those of the packages that write
def test_the_newest_version_is_read(tmp_path: Path, form: str) -> None:
    WRITE[form](tmp_path / "events")
    store = import_log(tmp_path / "events", tmp_path / "store")
    assert sizes(store) == WHOLE and store.meta.name == "events"
    assert histories(store) == histories(read(tmp_path, CSV, overwrite=True))
    with pytest.raises(DataError, match=rf"got an? {form} table at .*events, whose folder holds older versions too"):
        import_log([tmp_path / "events", tmp_path / "log"], tmp_path / "both")


@pytest.mark.parametrize(("form", "inside"), [("delta", "_delta_log"), ("iceberg", "metadata")])
def test_tables_that_cannot_be_read(tmp_path: Path, form: str, inside: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table" / inside).mkdir(parents=True)
    (tmp_path / "table" / inside / "1.metadata.json").write_text("{")
    package = {"delta": "deltalake", "iceberg": "pyiceberg"}[form]
    if find_spec(package) is not None:
        with pytest.raises(
            DataError, match=rf"expected a whole {form} table at .*table, got: .*; check the path"
        ) as got:
            import_log(tmp_path / "table", tmp_path / "store")
        assert "\n" not in str(got.value)
    monkeypatch.setattr(lakes, "find_spec", lambda name: None)
    message = (
        rf"expected the package {package} for the {form} table .*; install it with pip install 'leanrec\[{form}\]'"
    )
    with pytest.raises(ConfigError, match=message):
        import_log(tmp_path / "table", tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


class _Quiet(SimpleHTTPRequestHandler):
    """Serves files in pieces, as Polars asks for them."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        content = Path(self.translate_path(self.path)).read_bytes()
        asked = self.headers.get("Range", "")
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(content) - int(last)) if last else 0
        part = content[start : int(last) + 1 if first and last else None]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    (tmp_path / "web").mkdir()
    TABLE.write_parquet(tmp_path / "web" / "log.parquet")
    TABLE.write_csv(tmp_path / "web" / "log.csv")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(tmp_path / "web"))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_web_server(tmp_path: Path, web: str, form: str) -> None:
    store = import_log(f"{web}/log.{form}?token=s3cr3t", tmp_path / "store")
    assert sizes(store) == WHOLE and store.meta.source == f"{web}/log.{form}"
    assert not any(b"s3cr3t" in path.read_bytes() for path in store.path.iterdir())
