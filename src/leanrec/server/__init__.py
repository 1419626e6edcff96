"""Answer over HTTP: batches, sessions, reloads and an orderly end around one engine, and a page to try it by hand.

Needs the extra ``serve``. An export is served without torch and polars: ``python -m leanrec.server EXPORT``.
"""
