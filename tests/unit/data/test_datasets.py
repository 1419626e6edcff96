"""Named public sets, fetched from a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import json
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leanrec.core.errors import ConfigError, DataError, WriteError
from leanrec.data import datasets, download
from leanrec.data.datasets import DATASETS, Dataset, Table, fetch
from leanrec.data.store import Store

EVENTS = [
    ("ann", "7", 100),
    ("ann", "8", 200),
    ("ann", "9", 300),
    ("bob", "8", 100),
    ("bob", "7", 250),
    ("bob", "8", 400),
]


class Server:
    """Serves bytes by name; can cut an answer, ignore ranges and change its mind about the ETag."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.etag, self.cut, self.ranges = '"one"', 0, True
        self.asked: list[str | None] = []
        self.url = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.headers["Range"])
            body = state.files.get(self.path.lstrip("/"))
            if body is None:
                self.send_error(404)
                return
            start = 0
            if self.headers["Range"] and state.ranges and self.headers["If-Range"] == state.etag:
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start and start >= len(body):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body) - start))
            if state.etag:
                self.send_header("ETag", state.etag)
            self.end_headers()
            self.wfile.write(body[start : state.cut or None])

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        state.url = f"http://127.0.0.1:{http_server.server_address[1]}"
        yield state
        http_server.shutdown()
        thread.join(5)


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def lines(form: Callable[[str, str, int], str], encoding: str = "utf-8") -> bytes:
    return "".join(form(*event) + "\n" for event in EVENTS).encode(encoding)


def moment(time: int) -> str:
    return f"2014-04-07T10:{time // 60:02d}:{time % 60:02d}"


RAW: dict[str, bytes] = {
    "ml-100k": zipped(
        **{
            "ml-100k/u.data": lines(lambda u, i, t: f"{u}\t{i}\t3\t{t}"),
            "ml-100k/u.item": "7|Café (1995)|01-Jan-1995||x\n8|B|\n9|C|\n".encode("latin-1"),
        }
    ),
    "ml-1m": zipped(
        **{
            "ml-1m/ratings.dat": lines(lambda u, i, t: f"{u}::{i}::3::{t}"),
            "ml-1m/movies.dat": "7::Café (1995)::Drama\n8::B::Drama\n9::C::Drama\n".encode("latin-1"),
        }
    ),
    "ml-20m": zipped(
        **{
            "ml-20m/ratings.csv": b"userId,movieId,rating,timestamp\n" + lines(lambda u, i, t: f"{u},{i},3.5,{t}"),
            "ml-20m/movies.csv": 'movieId,title,genres\n7,Café (1995),Drama\n8,"B, the",Drama\n9,C,Drama\n'.encode(),
        }
    ),
    "amazon-beauty": gzip.compress(
        lines(lambda u, i, t: json.dumps({"reviewerID": u, "asin": i, "reviewText": "so, so", "unixReviewTime": t}))
    ),
    "gowalla": gzip.compress(lines(lambda u, i, t: f"{u}\t{moment(t)}Z\t30.2\t-97.7\t{i}")),
    "steam": gzip.compress(
        lines(lambda u, i, t: repr({"username": u, "text": "it's", "product_id": i, "date": f"2014-04-0{t // 100}"}))
    ),
    "retailrocket": b"timestamp,visitorid,event,itemid,transactionid\n"
    + lines(lambda u, i, t: f"{1433221332000 + t},{u},view,{i},"),
    "yoochoose": lines(lambda u, i, t: f"{u},{moment(t)}.002Z,{i},0"),
}


def get(name: str, out: Path, server: Server, cache: Path, **options: object) -> Store:
    return fetch(name, out, cache=cache, base_url=server.url, min_user=1, min_item=1, **options)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", sorted(RAW))
def test_every_form_is_read(name: str, server: Server, tmp_path: Path) -> None:
    raw = RAW[name]
    server.files[DATASETS[name].file] = raw
    checksum = hashlib.sha256(raw).hexdigest()
    seen: list[str] = []
    store = get(
        name,
        tmp_path / "out",
        server,
        tmp_path / "cache",
        sha256=checksum,
        progress=lambda s, done, total: seen.append(s),
    )
    keys = store.catalog.keys
    histories = {user: [keys[i - 1] for i in store.history(u)] for u, user in enumerate(store.user_keys)}
    assert histories == {"ann": ["7", "8", "9"], "bob": ["8", "7", "8"]}
    assert store.times is not None
    assert (store.meta.name, store.meta.source, store.meta.source_sha256) == (name, DATASETS[name].file, checksum)
    assert any(DATASETS[name].licence in note for note in store.meta.notes)
    assert seen[0] == "download" and "read" in seen
    if DATASETS[name].titles:
        assert store.catalog.titles[keys.index("7")] == "Café (1995)"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "out"]
    assert [p.name for p in (tmp_path / "cache").iterdir()] == [DATASETS[name].file]


def test_covers_each_reader() -> None:
    assert {d.name for d in DATASETS.values() if not d.name.startswith("amazon")} < set(RAW)


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=lambda d: d.name)
def test_entries_are_complete(dataset: Dataset) -> None:
    assert dataset.url.startswith("https://") and dataset.page.startswith("https://")
    assert dataset.licence and dataset.events > 0 and dataset.file
    assert dataset.checksum is None or re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", dataset.checksum)


def test_no_checksum_is_said(server: Server, tmp_path: Path) -> None:
    server.files["reviews_Beauty_5.json.gz"] = RAW["amazon-beauty"]
    store = get("amazon-beauty", tmp_path / "out", server, tmp_path / "cache")
    assert "the publisher states no checksum; source_sha256 is what came" in store.meta.notes


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected a data set, got 'ml-1n'; did you mean 'ml-1m'\? known: amazon-"):
        fetch("ml-1n", tmp_path / "out")


def test_second_fetch_uses_the_cache(server: Server, tmp_path: Path) -> None:
    server.files["reviews_Beauty_5.json.gz"] = RAW["amazon-beauty"]
    get("amazon-beauty", tmp_path / "a", server, tmp_path / "cache")
    get("amazon-beauty", tmp_path / "b", server, tmp_path / "cache")
    assert len(server.asked) == 1


def test_existing_store_is_refused_before_the_download(server: Server, tmp_path: Path) -> None:
    server.files["reviews_Beauty_5.json.gz"] = RAW["amazon-beauty"]
    get("amazon-beauty", tmp_path / "out", server, tmp_path / "cache")
    with pytest.raises(DataError, match="got the store"):
        get("amazon-beauty", tmp_path / "out", server, tmp_path / "other")
    assert len(server.asked) == 1
    get("amazon-beauty", tmp_path / "out", server, tmp_path / "cache", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "out"]


def test_wrong_checksum_removes_the_file(server: Server, tmp_path: Path) -> None:
    server.files["ml-100k.zip"] = RAW["ml-100k"]
    got = hashlib.md5(RAW["ml-100k"]).hexdigest()
    with pytest.raises(DataError, match=f"expected md5 0e33842e24a9c977be4e0107933c0723, got {got} for ml-100k.zip"):
        get("ml-100k", tmp_path / "out", server, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == [] and not (tmp_path / "out").exists()


def test_missing_on_the_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got HTTP 404 Not Found from http://127.*/ml-1m.zip; the publisher may have"):
        get("ml-1m", tmp_path / "out", server, tmp_path / "cache")
    assert not (tmp_path / "out").exists()


def test_no_network(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected an answer, got .*refused.* is there a network connection\?"):
        fetch("ml-1m", tmp_path / "out", cache=tmp_path, base_url="http://127.0.0.1:1")


def test_manual_set_says_where_to_put_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"events.csv, got no such file; download it by hand from https://www.kaggle"):
        fetch("retailrocket", tmp_path / "out", cache=tmp_path)
    (tmp_path / "events.csv").write_bytes(RAW["retailrocket"])
    assert fetch("retailrocket", tmp_path / "out", cache=tmp_path, min_user=1, min_item=1).num_users == 2


def test_usual_filter_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_bytes(RAW["retailrocket"])
    with pytest.raises(DataError, match="minimum counts"):
        fetch("retailrocket", tmp_path / "out", cache=tmp_path)


def test_cut_transfer_is_noticed_and_continued(server: Server, tmp_path: Path) -> None:
    body = bytes(range(256)) * 50
    server.files["f"], server.cut = body, 5000
    target = tmp_path / "cache" / "f"
    with pytest.raises(DataError, match=r"expected 12800 bytes, got 5000 from .*; the transfer was cut, run it again"):
        download.download(f"{server.url}/f", target)
    assert not target.exists()
    server.cut, told = 0, []
    download.download(f"{server.url}/f", target, lambda *step: told.append(step))
    assert target.read_bytes() == body
    assert server.asked == [None, "bytes=5000-"]
    assert told[-1] == ("download", 12800, 12800) and told[0][1] > 5000
    assert [p.name for p in target.parent.iterdir()] == ["f"]


@pytest.mark.parametrize("change", ["content", "no ranges", "shorter"])
def test_continues_only_the_same_file(change: str, server: Server, tmp_path: Path) -> None:
    server.files["f"], server.cut = b"old" * 1000, 500
    target = tmp_path / "f"
    with pytest.raises(DataError, match="transfer was cut"):
        download.download(f"{server.url}/f", target)
    server.cut = 0
    if change == "content":
        server.files["f"], server.etag = b"new" * 1000, '"two"'
    elif change == "no ranges":
        server.ranges = False
    else:
        server.files["f"] = b"new" * 10  # the server answers 416
    download.download(f"{server.url}/f", target)
    assert target.read_bytes() == server.files["f"]


def test_does_not_continue_without_a_tag(server: Server, tmp_path: Path) -> None:
    server.etag = ""
    (tmp_path / "f.part").write_bytes(b"something else")
    server.files["f"] = b"x" * 100
    download.download(f"{server.url}/f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"x" * 100 and server.asked == [None]


def test_disk_full(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["f"] = b"x" * 100

    def full(self: Path, *args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(WriteError, match=r"cannot write .*f: No space left on device; free some space"):
        download.download(f"{server.url}/f", tmp_path / "f")


def test_missing_member(server: Server, tmp_path: Path) -> None:
    server.files["ml-1m.zip"] = raw = zipped(readme=b"hello")
    with pytest.raises(DataError, match=r"expected ml-1m/ratings.dat in .*ml-1m.zip, got readme; is it the right"):
        get("ml-1m", tmp_path / "out", server, tmp_path / "cache", sha256=hashlib.sha256(raw).hexdigest())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache"]


def test_names_in_an_archive_never_become_paths(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = "../../evil.csv"
    dataset = Dataset(
        name="tiny", title="Tiny", url="https://example.org/tiny.zip", page="https://example.org", licence="free",
        events=6, user="user", item="item", time="time", log=Table(member=evil),
    )  # fmt: skip
    monkeypatch.setitem(datasets.DATASETS, "tiny", dataset)
    server.files["tiny.zip"] = zipped(**{evil: b"user,item,time\n" + lines(lambda u, i, t: f"{u},{i},{t}")})
    assert get("tiny", tmp_path / "a" / "out", server, tmp_path / "cache").num_events == 6
    assert not [p for p in tmp_path.rglob("*") if "evil" in p.name]


@pytest.mark.parametrize("raw", [b"<html>moved</html>", RAW["ml-1m"][:300]], ids=["html", "cut"])
def test_damaged_archive_is_removed(raw: bytes, server: Server, tmp_path: Path) -> None:
    server.files["ml-1m.zip"] = raw
    with pytest.raises(
        DataError, match=r"expected a zip archive, got .* in .*ml-1m.zip; it was removed, fetch it again"
    ):
        get("ml-1m", tmp_path / "out", server, tmp_path / "cache", sha256=hashlib.sha256(raw).hexdigest())
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        (
            "steam",
            gzip.compress(b"{'username': 'a', 'product_id': '1', 'date': '2014-01-01'}\n{'username': 'b'}\n", mtime=0),
        ),
        ("steam", gzip.compress(b"{'username': 'a', 'product_id': '1', 'date': '2014-01-01'}\nopen('x')\n", mtime=0)),
        ("ml-1m", zipped(**{"ml-1m/ratings.dat": b"1::2::3::4\n1::2\n", "ml-1m/movies.dat": b""})),
    ],
    ids=["missing key", "code", "short line"],
)
def test_line_of_another_form(name: str, raw: bytes, server: Server, tmp_path: Path) -> None:
    server.files[DATASETS[name].file] = raw
    with pytest.raises(DataError, match=r"expected user.* in line 2 of .*; the download is damaged or its form"):
        get(name, tmp_path / "out", server, tmp_path / "cache", sha256=hashlib.sha256(raw).hexdigest())
    assert not (tmp_path / "out").exists()


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEANREC_CACHE", str(tmp_path))
    assert download.cache_folder() == tmp_path
    monkeypatch.delenv("LEANREC_CACHE")
    assert download.cache_folder() == Path.home() / ".cache" / "leanrec"
