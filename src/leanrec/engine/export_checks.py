"""Compare what an export declares with what is in its files, before anything is opened or allocated.

`artifact.exported.read_export` has compared checksums, but whoever makes a hostile export can make its checksums fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from leanrec.artifact.exported import (
    HISTORY,
    ROUTING,
    STATES,
    STEP,
    WEIGHTS,
    CodedBlock,
    Exported,
    RoutePlan,
)
from leanrec.artifact.tensors import Stored, not_finite, read_header
from leanrec.artifact.weights import SCALE
from leanrec.core.errors import ArtifactError, ConfigError, one_line
from leanrec.core.plain import NO_NETWORK, TIME, Route
from leanrec.formats.base import Format, Shape, Signature

_CENTROIDS = 256
_WINDOWS = 2**16
"""Most rows of all windows of a user's memories."""
_KEPT, MOST_NEWEST, _GATE = 4096, 256, 5
"""Most items of a row of evidence, and most rows that are read for a user; numbers of the gate."""
_STEPS: dict[str, Shape] = dict.fromkeys(STEP, (None,))


def check_export(folder: Path, exported: Exported, form: Format) -> None:
    """Refuse an export whose files do not hold what its manifest declares, or whose weights are not finite.

    Args:
        folder: Of the export.
        exported: Its manifest.
        form: Its format.

    Raises:
        ArtifactError: Says what was expected and what came.
    """
    try:
        _check_values(exported)
        header = read_header(folder / WEIGHTS)
        _check_weights(exported, header)
        _check_parts(exported, folder, form, header)
        _check_finite(folder / WEIGHTS, header)
    except (ValueError, OSError) as error:
        raise _misfit(folder, error) from error
    check_evidence(folder, exported)


def check_evidence(folder: Path, exported: Exported) -> None:
    """Refuse a table of evidence that does not have the shapes of its model, or holds what is no number.

    Raises:
        ArtifactError: As `check_export`.
    """
    if exported.evidence is None:
        return
    path = folder / exported.evidence.file
    try:
        header = read_header(path)
        _check_scales(header)
        _check_evidence(header, exported.data.items, path.name)
        _check_finite(path, header)
    except (ValueError, OSError) as error:
        raise _misfit(folder, error) from error


def _misfit(folder: Path, error: Exception) -> ArtifactError:
    return ArtifactError(f"the export {folder} does not fit together: {one_line(error)}; export again")


def _check_finite(path: Path, header: dict[str, Stored]) -> None:
    bad = not_finite(path, header)
    if bad is not None:
        raise ValueError(f"expected finite weights in {path.name}, got others in {bad[:80]!r}")


def _check_values(exported: Exported) -> None:
    """Check that the numbers and names of a manifest fit each other."""
    try:
        routes = [Route.parse(plan.route) for plan in exported.plan]
    except ConfigError as error:
        raise ValueError(str(error)) from error
    if len(set(routes)) != len(routes) or (len(routes) > 1) != bool(exported.router):
        raise ValueError("expected each route once, and a router where there are several")
    if sum(map(bool, (exported.matrix, exported.codes, exported.scores))) != 1:
        raise ValueError("expected one of a matrix, codes and a part that gives the scores")
    if (NO_NETWORK in routes) != bool(exported.prior) or (exported.prior and exported.evidence is None):
        raise ValueError("expected a prior and evidence where a route asks no network, and a prior nowhere else")
    if not math.isfinite(exported.usual):
        raise ValueError(f"expected a finite usual price, got {exported.usual}")
    for route, plan in zip(routes, exported.plan, strict=True):
        if (route == NO_NETWORK) != (not plan.part) or bool(plan.part) != bool(plan.width):
            raise ValueError(f"expected a part with states, or neither without a network, for the route {plan.route}")
        if plan.width > exported.channels:
            raise ValueError(f"expected states of at most {exported.channels} channels, got {plan.width}")
        if bool(plan.step) != bool(plan.remember) or (plan.memories and not plan.step):
            raise ValueError(f"expected remember, step and memories of the route {plan.route} together")
        back = [memory.back for memory in plan.memories if memory.back]
        if any(list(steps) != sorted(set(steps), reverse=True) for steps in back):
            raise ValueError("expected steps back in descending order")
        if sum(steps[0] for steps in back) > _WINDOWS:
            raise ValueError(f"expected at most {_WINDOWS} rows of windows, got {sum(steps[0] for steps in back)}")


def _check_weights(exported: Exported, header: Mapping[str, Stored]) -> None:
    """Check that the weights of items and routing have the shapes that are declared, and int8 weights scales that fit."""
    items, channels = exported.data.items, exported.channels
    _check_scales(header)
    if exported.matrix:
        _expect(header, exported.matrix, ("F32", "I8"), (items + 1, channels))
    if exported.codes:
        count = sum(_check_block(header, block, channels) for block in exported.codes)
        if count != items:
            raise ValueError(f"expected codes of {items} items, got {count}")
    if exported.prior:
        _expect(header, exported.prior, ("F32",), (items,))
    if exported.router:
        _expect(header, ROUTING[0], ("F32",), (exported.max_length + 1, len(exported.plan)))
        prices = header.get(ROUTING[2])
        solved = prices.shape[0] if prices is not None and len(prices.shape) == 1 else 0
        if solved < 2:
            raise ValueError(f"expected the prices of two budgets at least in {ROUTING[2]}, got {solved}")
        for name in ROUTING[1:]:
            _expect(header, name, ("F32", "F64"), (solved,))


def _check_scales(header: Mapping[str, Stored]) -> None:
    for name, stored in header.items():
        scales = header.get(name + SCALE)
        if scales is not None and (stored.dtype != "I8" or scales[:2] != ("F32", stored.shape[:1])):
            raise ValueError(
                f"expected an int8 weight {name[:80]!r} with a float32 scale a row, got {scales.shape} scales"
            )


def _check_block(header: Mapping[str, Stored], block: CodedBlock, channels: int) -> int:
    """Check a block of codes, and return its number of items."""
    codes = header.get(block.codes)
    if codes is None or codes.dtype != "U8" or len(codes.shape) != 2 or codes.shape[1] < 1 or channels % codes.shape[1]:
        raise ValueError(
            f"expected codes uint8 [K, m] whose m divides {channels} channels in {block.codes[:80]!r}, got others"
        )
    rows = codes.shape[1] * _CENTROIDS
    _expect(header, block.centroids, ("F32", "I8"), (rows, channels // codes.shape[1]))
    if block.scales:
        _expect(header, block.scales, ("F32",), (rows, 1))
    return codes.shape[0]


def _check_evidence(header: Mapping[str, Stored], items: int, file: str) -> None:
    """Check the shapes of a table of evidence; its ids are checked when they are read."""
    ids, window = header.get("ids"), header.get("window")
    kept = ids.shape[1] if ids is not None and len(ids.shape) == 2 else -1
    newest = window.shape[0] if window is not None and len(window.shape) == 1 else 0
    if not (0 <= kept <= _KEPT and 1 <= newest <= MOST_NEWEST):
        raise ValueError(
            f"expected evidence of at most {_KEPT} items in the rows of 1 to {MOST_NEWEST} newest items, got {kept} of {newest}"
        )
    _expect(header, "ids", ("I32",), (items + 1, kept), file)
    _expect(header, "shares", ("F32", "I8"), (items + 1, kept), file)
    lengths = {"window": newest, "own": newest, "gate": _GATE, "totals": items + 1, "worth": items + 1, "growth": 3}
    for name, length in lengths.items():
        _expect(header, name, ("F32",), (length,), file)
    _expect(header, "alone", ("F32",), (2, newest), file)


def _expect(
    header: Mapping[str, Stored], name: str, dtypes: tuple[str, ...], shape: tuple[int, ...], file: str = WEIGHTS
) -> None:
    got = header.get(name)
    if got is None or got.dtype not in dtypes or got.shape != shape:
        found = "none" if got is None else f"{got.dtype} {list(got.shape)}"
        raise ValueError(
            f"expected the weight {name[:80]!r} as {' or '.join(dtypes)} {list(shape)} in {file}, got {found}"
        )


def _check_parts(exported: Exported, folder: Path, form: Format, header: Mapping[str, Stored]) -> None:
    """Check that parts pass the inspection of their format, and have the inputs and outputs that the manifest declares."""
    foreign = sorted(name for name in exported.parts() if not name.endswith(f".{form.ending}"))
    if foreign:
        raise ValueError(f"expected parts that end in .{form.ending}, got {one_line(repr(foreign[0]))}")
    places = {(stored.start, stored.bytes) for stored in header.values()}
    found = {name: form.inspect(folder / name, places) for name in sorted(exported.parts())}
    for plan in exported.plan:
        if not plan.part:
            continue
        _fits(exported, found, plan.part, _histories(exported), ((None, plan.width),))
        if plan.step:
            _check_steps(exported, plan, found)
    if exported.router:
        _fits(exported, found, exported.router, _histories(exported), ((None, len(exported.plan)),))
    if exported.scores:
        (states,) = STATES
        _fits(exported, found, exported.scores, {states: (None, exported.channels)}, ((None, exported.data.items),))


def _histories(exported: Exported) -> dict[str, Shape]:
    """Inputs of the parts that read histories."""
    if exported.reads not in ((), (TIME,)):
        raise ValueError(
            f"expected parts that read {TIME} or nothing beside items, got {one_line(', '.join(exported.reads))}"
        )
    shapes: tuple[Shape, ...] = ((None, None), (None,), *[(None, None)] * len(exported.reads))
    return dict(zip((*HISTORY, *exported.reads), shapes, strict=True))


def _check_steps(exported: Exported, plan: RoutePlan, found: Mapping[str, Signature | None]) -> None:
    """Check that the parts for single steps read and give the memories that the manifest declares."""
    count, whole = len(plan.memories), [memory for memory in plan.memories if not memory.back]
    near = sum(len(memory.back) for memory in plan.memories)
    remember = found[plan.remember]
    rows = remember.outputs[1:] if remember else ()
    width = rows[0][1][-1] if rows and rows[0][1] else 0
    if remember and (width is None or (count and not width) or any(width % m.heads for m in plan.memories)):
        raise ValueError(
            f"expected rows of memories that divide by their heads in {plan.remember}, got {width} channels"
        )
    width = width or 0
    read: list[Shape] = [(None, near * width)] * (near > 0)
    read += [(None, memory.heads, exported.max_length, width // memory.heads) for memory in whole]
    states, inputs = (None, plan.width), _STEPS | {f"read{i}": shape for i, shape in enumerate(read)}
    _fits(exported, found, plan.remember, _histories(exported), (states, *[(None, None, width)] * count))
    _fits(exported, found, plan.step, inputs, (states, (None, count * width)))


def _fits(
    exported: Exported,
    found: Mapping[str, Signature | None],
    name: str,
    inputs: Mapping[str, Shape],
    outputs: tuple[Shape, ...],
) -> None:
    """Check the inputs and outputs of a part: in the manifest and, where its format can tell, in its file."""
    signature, declared = found[name], exported.inputs.get(name, ())
    if declared != tuple(inputs) or (signature and tuple(name for name, _ in signature.inputs) != declared):
        got = declared if declared != tuple(inputs) or not signature else [name for name, _ in signature.inputs]
        raise ValueError(f"expected {name} to read {', '.join(inputs)}, got {one_line(', '.join(got) or 'nothing')}")
    if signature is None:
        return
    for what, expected, entries in (
        ("inputs", tuple(inputs.values()), signature.inputs),
        ("outputs", outputs, signature.outputs),
    ):
        shapes = [shape for _, shape in entries]
        if len(shapes) != len(expected) or not all(map(_same_sizes, expected, shapes)):
            wanted, got = (one_line([list(shape) for shape in some]) for some in (expected, shapes))
            raise ValueError(f"expected {what} {wanted} of {name}, got {got}")


def _same_sizes(expected: Shape, got: Shape) -> bool:
    return len(expected) == len(got) and all(a is None or a == b for a, b in zip(expected, got, strict=True))
