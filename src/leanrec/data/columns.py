"""Which column of a log holds the users, the items, the times and the titles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from leanrec.core.errors import DataError

_LISTED = 50
"""Most columns that an error names."""
# Names without case, spaces and punctuation; the first that a log has is taken.
GUESSES = {
    "user": (
        *("user", "userid", "uid", "usr", "userkey", "visitor", "visitorid", "customer", "customerid", "member"),
        *("memberid", "account", "accountid", "reviewer", "reviewerid", "player", "playerid", "listener", "username"),
        *("session", "sessionid", "sid", "sessid"),
    ),
    "item": (
        *("item", "itemid", "iid", "itemkey", "movie", "movieid", "product", "productid", "parentasin", "asin"),
        *("article", "articleid", "book", "bookid", "isbn", "track", "trackid", "song", "songid", "artistid", "video"),
        *("videoid", "game", "gameid", "appid", "business", "businessid", "gmapid", "news", "newsid", "sku"),
        "stockcode",
    ),
    "time": (
        *("timestamp", "time", "ts", "datetime", "date", "unixtime", "unixreviewtime", "eventtime", "eventtimestamp"),
        *("timestampms", "createdat", "created", "reviewtime", "invoicedate", "visittime"),
    ),
    "kind": (
        *("event", "eventtype", "eventname", "behavior", "behaviortype", "behaviour", "behaviourtype", "action"),
        *("actiontype", "interaction", "interactiontype"),
    ),
    "title": ("title", "name", "itemtitle", "itemname", "movietitle", "producttitle", "productname", "label"),
}


def guess(role: str, names: Sequence[str]) -> str | None:
    """The column that most likely plays the role ("user", "item", "time", "kind" or "title"), or None."""
    plain = {"".join(c for c in name.lower() if c.isalnum()): name for name in reversed(names)}
    return next((plain[known] for known in GUESSES[role] if known in plain), None)


def resolve(
    role: str,
    given: str | None,
    names: Sequence[str],
    path: Path | str,
    *,
    optional: bool = False,
    option: str = "",
    advice: str = "",
) -> str | None:
    """The column named by the user, or else the guessed one.

    Args:
        optional: Answer None instead of raising when nothing was named and no column looks right.
        option: That names it; as the role by default.
        advice: What to do where none looks right; by default to name it.

    Raises:
        DataError: There is no such column, more than one, or none that looks right.
    """
    have = ", ".join(names[:_LISTED]) + (" and others" if len(names) > _LISTED else "")
    column = guess(role, names) if given is None else given
    if column is None:
        if optional:
            return None
        article = "an" if role == "item" else "a"
        advice = advice or (
            f"name it with --{option or role}, or give its position from 1 there if the file has no header"
        )
        raise DataError(f"expected {article} {role} column, got the columns {have} in {path}; {advice}")
    if names.count(column) != 1:
        got = "no such column" if column not in names else "several of that name"
        raise DataError(f"expected the {role} column {column!r}, got {got} in {path}; it has the columns {have}")
    return column
