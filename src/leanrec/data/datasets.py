"""Named public data sets: where they are, what they hold, under which terms, and how to fetch one into a store."""

from __future__ import annotations

import ast
import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

import msgspec

from leanrec.core.errors import ConfigError, DataError
from leanrec.core.registry import did_you_mean
from leanrec.data.download import Progress, cache_folder, download, extract, verify
from leanrec.data.importer import import_log
from leanrec.data.store import META, Store, check_target, scratch


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """One table of a data set and how to read it.

    Attributes:
        member: Name inside the zip archive; None if the download itself is the table.
        columns: Names of the columns, for a file without a header; empty if the file names them or is JSON.
        separator: Between the columns, for a file without a header.
        encoding: Of the text.
        literals: Every line is a Python dictionary, not JSON; ``columns`` are the keys that are kept.
    """

    member: str | None = None
    columns: tuple[str, ...] = ()
    separator: str = ""
    encoding: str = "utf-8"
    literals: bool = False


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """A public data set.

    Attributes:
        url: What to download, or the page of the publisher for a manual one.
        page: Where the publisher describes it and states its terms.
        licence: The terms in a sentence; the page has the authoritative text.
        events: Interactions in the log, before any filter.
        log: The log.
        user: Column of the users, and so on.
        titles: A table with the items' titles.
        checksum: "md5:..." as the publisher states it; None where the publisher states none.
        min_count: The usual filter: least events of a user and of an item.
        manual: File name to put into the cache by hand, because the publisher asks for a login or packs it as 7z.
    """

    name: str
    title: str
    url: str
    page: str
    licence: str
    events: int
    user: str
    item: str
    time: str
    log: Table = Table()
    titles: Table | None = None
    checksum: str | None = None
    min_count: int = 1
    manual: str | None = None

    @property
    def file(self) -> str:
        """Name of the download in the cache."""
        return self.manual or self.url.rsplit("/", 1)[-1]


def fetch(
    name: str,
    out: Path | str,
    *,
    cache: Path | None = None,
    base_url: str | None = None,
    sha256: str | None = None,
    min_user: int | None = None,
    min_item: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Store:
    """Download a named public data set (once; it stays in the cache), check it and import it.

    Args:
        name: One of `DATASETS`.
        out: The store to write.
        cache: Folder of the downloads; by default `cache_folder`.
        base_url: Take the file of the same name from this mirror.
        sha256: The checksum to expect instead of the publisher's, if any.
        min_user: See `import_log`; by default the data set's usual filter, and so is ``min_item``.
        overwrite: Replace an existing store.
        progress: Called with (stage, done, total): "download" and "extract" in bytes, then the stages of `import_log`.

    Raises:
        ConfigError: There is no data set of that name.
        DataError: It cannot be downloaded, or is not what was expected; nothing is left at ``out``.
    """
    dataset, out = find(name), Path(out)
    check_target(out, overwrite)
    url = f"{base_url.rstrip('/')}/{dataset.file}" if base_url else dataset.url
    archive = (cache or cache_folder()) / dataset.file
    if not archive.exists():
        if dataset.manual and not base_url:
            raise DataError(f"expected {archive}, got no such file; download it by hand from {url} and put it there")
        download(url, archive, progress)
    checksum = verify(archive, f"sha256:{sha256}" if sha256 else dataset.checksum, url)
    with scratch(out) as folder:
        log = _table(dataset.log, archive, folder / "log", progress)
        titles = dataset.titles and _table(dataset.titles, archive, folder / "titles", progress)
        store = import_log(
            log,
            folder / "store",
            user=dataset.user,
            item=dataset.item,
            time=dataset.time,
            titles=titles,
            min_user=dataset.min_count if min_user is None else min_user,
            min_item=dataset.min_count if min_item is None else min_item,
            name=dataset.name,
            progress=progress,
        )
        notes = (f"{dataset.title}, from {url}", f"terms: {dataset.licence} ({dataset.page})")
        if dataset.checksum is None and sha256 is None:
            notes += ("the publisher states no checksum; source_sha256 is what came",)
        meta = msgspec.structs.replace(
            store.meta, source=dataset.file, source_sha256=checksum, notes=notes + store.meta.notes
        )
        (folder / "store" / META).write_bytes(msgspec.json.format(msgspec.json.encode(meta), indent=2) + b"\n")
        if out.exists():
            out.rename(folder / "replaced")
        (folder / "store").rename(out)
    return Store.open(out)


def find(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in DATASETS:
        raise ConfigError(f"expected a data set, got {name!r}; {did_you_mean(name, DATASETS)}")
    return DATASETS[name]


def _table(table: Table, archive: Path, target: Path, progress: Progress | None) -> Path:
    """A path that `import_log` can read: the download, a member of it, or a tab-separated copy with a header."""
    source = archive
    if table.member:
        extract(archive, table.member, target, progress)
        source = target
    if not table.columns:
        return source
    copy = target.with_name(f"{target.name}.tsv")
    with copy.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(table.columns)
        writer.writerows(_rows(table, source))
    return copy


def _rows(table: Table, source: Path) -> Iterator[list[str]]:
    opener = gzip.open if source.suffix == ".gz" else open
    number = 0
    try:
        with opener(source, "rt", encoding=table.encoding, newline="\n") as file:
            for number, line in enumerate(file, 1):
                if table.literals:
                    entry = ast.literal_eval(line)
                    yield [str(entry[column]) for column in table.columns]
                elif line.strip():
                    fields = line.rstrip("\r\n").split(table.separator)
                    yield [fields[place] for place in range(len(table.columns))]
    except (ValueError, SyntaxError, KeyError, IndexError, TypeError, EOFError, gzip.BadGzipFile) as error:
        raise DataError(
            f"expected {', '.join(table.columns)} in line {max(number, 1)} of {source.name}, got {error!r}; "
            "the download is damaged or its form has changed"
        ) from None


_MOVIELENS = {
    "licence": "research use, no redistribution or commercial use without permission",
    "user": "user",
    "item": "item",
    "time": "time",
}


def _amazon(name: str, category: str, events: int) -> Dataset:
    """A category of the Amazon reviews of 1996 to 2014, users and items with at least five reviews."""
    return Dataset(
        name=f"amazon-{name}",
        title=f"Amazon reviews 2014, {category.replace('_', ' ')}, 5-core",
        url=f"https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/reviews_{category}_5.json.gz",
        page="https://jmcauley.ucsd.edu/data/amazon/",
        licence="no licence stated; the publishers ask to cite their papers",
        events=events,
        user="reviewerID",
        item="asin",
        time="unixReviewTime",
    )


_ALL = (
    Dataset(
        name="ml-100k",
        title="MovieLens 100K",
        url="https://files.grouplens.org/datasets/movielens/ml-100k.zip",
        page="https://files.grouplens.org/datasets/movielens/ml-100k-README.txt",
        events=100_000,
        log=Table(member="ml-100k/u.data", columns=("user", "item", "rating", "time"), separator="\t"),
        titles=Table(member="ml-100k/u.item", columns=("item", "title"), separator="|", encoding="latin-1"),
        checksum="md5:0e33842e24a9c977be4e0107933c0723",
        **_MOVIELENS,
    ),
    Dataset(
        name="ml-1m",
        title="MovieLens 1M",
        url="https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        page="https://files.grouplens.org/datasets/movielens/ml-1m-README.txt",
        events=1_000_209,
        log=Table(member="ml-1m/ratings.dat", columns=("user", "item", "rating", "time"), separator="::"),
        titles=Table(member="ml-1m/movies.dat", columns=("item", "title"), separator="::", encoding="latin-1"),
        checksum="md5:c4d9eecfca2ab87c1945afe126590906",
        **_MOVIELENS,
    ),
    Dataset(
        name="ml-20m",
        title="MovieLens 20M",
        url="https://files.grouplens.org/datasets/movielens/ml-20m.zip",
        page="https://files.grouplens.org/datasets/movielens/ml-20m-README.html",
        events=20_000_263,
        log=Table(member="ml-20m/ratings.csv"),
        titles=Table(member="ml-20m/movies.csv"),
        checksum="md5:cd245b17a1ae2cc31bb14903e1204af3",
        **(_MOVIELENS | {"user": "userId", "item": "movieId", "time": "timestamp"}),
    ),
    _amazon("beauty", "Beauty", 198_502),
    _amazon("books", "Books", 8_898_041),
    _amazon("cds", "CDs_and_Vinyl", 1_097_592),
    _amazon("clothing", "Clothing_Shoes_and_Jewelry", 278_677),
    _amazon("electronics", "Electronics", 1_689_188),
    _amazon("games", "Video_Games", 231_780),
    _amazon("home", "Home_and_Kitchen", 551_682),
    _amazon("movies", "Movies_and_TV", 1_697_533),
    _amazon("sports", "Sports_and_Outdoors", 296_337),
    _amazon("toys", "Toys_and_Games", 167_597),
    Dataset(
        name="gowalla",
        title="Gowalla check-ins",
        url="https://snap.stanford.edu/data/loc-gowalla_totalCheckins.txt.gz",
        page="https://snap.stanford.edu/data/loc-Gowalla.html",
        licence="no licence stated; the publishers ask to cite their paper",
        events=6_442_890,
        log=Table(columns=("user", "time", "latitude", "longitude", "item"), separator="\t"),
        user="user",
        item="item",
        time="time",
        min_count=10,
    ),
    Dataset(
        name="steam",
        title="Steam reviews",
        url="https://cseweb.ucsd.edu/~wckang/steam_reviews.json.gz",
        page="https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data",
        licence="no licence stated; the publishers ask to cite their papers",
        events=7_793_069,
        log=Table(columns=("username", "product_id", "date"), literals=True),
        user="username",
        item="product_id",
        time="date",
        min_count=5,
    ),
    Dataset(
        name="retailrocket",
        title="RetailRocket (views, carts and purchases together)",
        url="https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
        page="https://www.kaggle.com/datasets/retailrocket/ecommerce-dataset",
        licence="CC BY-NC-SA 4.0",
        events=2_756_101,
        user="visitorid",
        item="itemid",
        time="timestamp",
        min_count=5,
        manual="events.csv",
    ),
    Dataset(
        name="yoochoose",
        title="Yoochoose clicks (RecSys Challenge 2015)",
        url="https://www.kaggle.com/datasets/chadgostopp/recsys-challenge-2015",
        page="https://www.kaggle.com/datasets/chadgostopp/recsys-challenge-2015",
        licence="CC BY-NC-ND 4.0",
        events=33_003_944,
        log=Table(columns=("session", "time", "item", "category"), separator=","),
        user="session",
        item="item",
        time="time",
        min_count=5,
        manual="yoochoose-clicks.dat",
    ),
)
DATASETS: dict[str, Dataset] = {dataset.name: dataset for dataset in _ALL}
