"""Answer over HTTP: micro-batching, sessions, reload and drain around one engine, and a page to see it think.

Needs the extra ``serve``. An export is served without torch and polars: ``python -m leanrec.server EXPORT``.
"""
