"""``leanrec``, and ``python -m leanrec``."""

import sys

from leanrec.server.hangup import ignore_hangup


def main() -> None:
    """Run the command line. `leanrec.cli` takes a second to import, and SIGHUP must not end a server meanwhile."""
    if sys.argv[1:2] == ["serve"]:
        ignore_hangup()
    from leanrec.cli import run_cli

    run_cli()


if __name__ == "__main__":
    main()
