"""``python -m leanrec``."""

from leanrec.cli import main

if __name__ == "__main__":
    main()
