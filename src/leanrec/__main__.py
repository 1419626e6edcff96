"""``leanrec``, and ``python -m leanrec``."""

import sys

from leanrec.server.hangup import ignore


def main() -> None:
    """See `leanrec.cli`, which takes a second to import."""
    if sys.argv[1:2] == ["serve"]:
        ignore()
    from leanrec.cli import main as command

    command()


if __name__ == "__main__":
    main()
