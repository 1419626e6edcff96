"""Named public data sets: where they are, what they hold, and under which terms."""

from __future__ import annotations

import msgspec

from leanrec.core.errors import ConfigError
from leanrec.core.registry import did_you_mean


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


def find(name: str) -> Dataset:
    """The data set of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in DATASETS:
        raise ConfigError(f"expected a data set, got {name!r}; {did_you_mean(name, DATASETS)}")
    return DATASETS[name]


def _movielens(
    size: str,
    events: int,
    md5: str,
    *,
    log: Table,
    titles: Table,
    columns: tuple[str, str, str] = ("user", "item", "time"),
) -> Dataset:
    """A MovieLens set; the publisher states the md5 beside the archive."""
    return Dataset(
        name=f"ml-{size}",
        title=f"MovieLens {size.upper()}",
        url=f"https://files.grouplens.org/datasets/movielens/ml-{size}.zip",
        page=f"https://grouplens.org/datasets/movielens/{size}/",
        licence="research use; no redistribution and no commercial use without permission",
        events=events,
        checksum=f"md5:{md5}",
        log=log,
        titles=titles,
        user=columns[0],
        item=columns[1],
        time=columns[2],
    )


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
    _movielens(
        "100k",
        100_000,
        "0e33842e24a9c977be4e0107933c0723",
        log=Table(member="ml-100k/u.data", columns=("user", "item", "rating", "time"), separator="\t"),
        titles=Table(member="ml-100k/u.item", columns=("item", "title"), separator="|", encoding="latin-1"),
    ),
    _movielens(
        "1m",
        1_000_209,
        "c4d9eecfca2ab87c1945afe126590906",
        log=Table(member="ml-1m/ratings.dat", columns=("user", "item", "rating", "time"), separator="::"),
        titles=Table(member="ml-1m/movies.dat", columns=("item", "title"), separator="::", encoding="latin-1"),
    ),
    _movielens(
        "20m",
        20_000_263,
        "cd245b17a1ae2cc31bb14903e1204af3",
        log=Table(member="ml-20m/ratings.csv"),
        titles=Table(member="ml-20m/movies.csv"),
        columns=("userId", "movieId", "timestamp"),
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
