"""Hold what an export declares against what is in its files, before anything is opened or allocated.

`artifact.exported.read_export` has read the manifest and compared checksums; a stranger's checksums fit, too.
"""

from __future__ import annotations

import math
from pathlib import Path

from leanrec.artifact.exported import ROUTING, SCALE, WEIGHTS, CodedBlock, Exported, RoutePlan
from leanrec.artifact.manifest import one_line
from leanrec.artifact.onnx_graph import Graph, Shape, read_graph
from leanrec.artifact.tensors import Stored, not_finite, read_header
from leanrec.core.errors import ArtifactError, ConfigError
from leanrec.core.plain import Route

Header = dict[str, Stored]
CENTROIDS = 256
WINDOWS = 2**16
"""Most rows of all windows of a user's memories."""


def check_export(folder: Path, exported: Exported) -> None:
    """Refuse an export whose files do not hold what its manifest declares, or whose weights are not finite.

    Raises:
        ArtifactError: Says what was expected and what came.
    """
    try:
        _check_values(exported)
        header = read_header(folder / WEIGHTS)
        _check_weights(exported, header)
        if exported.format == "onnx":
            _check_parts(exported, folder, header)
        bad = not_finite(folder / WEIGHTS, header)
        if bad is not None:
            raise ValueError(f"expected finite weights in {WEIGHTS}, got others in {bad[:80]!r}")
    except (ValueError, OSError) as error:
        raise ArtifactError(f"the export {folder} does not fit together: {one_line(error)}; export again") from error


def _check_values(exported: Exported) -> None:
    """The numbers and names of a manifest fit each other."""
    try:
        routes = [Route.parse(plan.route) for plan in exported.plan]
    except ConfigError as error:
        raise ValueError(str(error)) from error
    if len(set(routes)) != len(routes) or (len(routes) > 1) != bool(exported.router):
        raise ValueError("expected each route once, and a router where there are several")
    if sum(map(bool, (exported.matrix, exported.codes, exported.scores))) != 1:
        raise ValueError("expected one of a matrix, codes and a part that gives the scores")
    if not math.isfinite(exported.usual):
        raise ValueError(f"expected a finite usual price, got {exported.usual}")
    for plan in exported.plan:
        if plan.width > exported.channels:
            raise ValueError(f"expected states of at most {exported.channels} channels, got {plan.width}")
        if bool(plan.step) != bool(plan.remember) or (plan.memories and not plan.step):
            raise ValueError(f"expected remember, step and memories of the route {plan.route} together")
        back = [memory.back for memory in plan.memories if memory.back]
        if any(list(steps) != sorted(set(steps), reverse=True) for steps in back):
            raise ValueError("expected steps back in descending order")
        if sum(steps[0] for steps in back) > WINDOWS:
            raise ValueError(f"expected at most {WINDOWS} rows of windows, got {sum(steps[0] for steps in back)}")


def _check_weights(exported: Exported, header: Header) -> None:
    """The weights that answer beside the graphs have the shapes of the items, channels and routes, and scales fit int8."""
    items, channels = exported.data.items, exported.channels
    for name, stored in header.items():
        scales = header.get(name + SCALE)
        if scales is not None and (stored.dtype != "I8" or scales[:2] != ("F32", stored.shape[:1])):
            raise ValueError(
                f"expected an int8 weight {name[:80]!r} with a float32 scale a row, got {scales.shape} scales"
            )
    if exported.matrix:
        _expect(header, exported.matrix, ("F32", "I8"), (items + 1, channels))
    if exported.codes:
        count = sum(_check_block(header, block, channels) for block in exported.codes)
        if count != items:
            raise ValueError(f"expected codes of {items} items, got {count}")
    if exported.router:
        _expect(header, ROUTING[0], ("F32",), (exported.max_length + 1, len(exported.plan)))
        prices = header.get(ROUTING[2])
        solved = prices.shape[0] if prices is not None and len(prices.shape) == 1 else 0
        if solved < 2:
            raise ValueError(f"expected the prices of two budgets at least in {ROUTING[2]}, got {solved}")
        for name in ROUTING[1:]:
            _expect(header, name, ("F32", "F64"), (solved,))


def _check_block(header: Header, block: CodedBlock, channels: int) -> int:
    """The items of a block of codes."""
    codes = header.get(block.codes)
    if codes is None or codes.dtype != "U8" or len(codes.shape) != 2 or codes.shape[1] < 1 or channels % codes.shape[1]:
        raise ValueError(
            f"expected codes uint8 [K, m] whose m divides {channels} channels in {block.codes[:80]!r}, got others"
        )
    rows = codes.shape[1] * CENTROIDS
    _expect(header, block.centroids, ("F32", "I8"), (rows, channels // codes.shape[1]))
    if block.scales:
        _expect(header, block.scales, ("F32",), (rows, 1))
    return codes.shape[0]


def _expect(header: Header, name: str, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> None:
    got = header.get(name)
    if got is None or got.dtype not in dtypes or got.shape != shape:
        found = "none" if got is None else f"{got.dtype} {list(got.shape)}"
        raise ValueError(
            f"expected the weight {name[:80]!r} as {' or '.join(dtypes)} {list(shape)} in {WEIGHTS}, got {found}"
        )


def _check_parts(exported: Exported, folder: Path, header: Header) -> None:
    """ONNX parts use only operators that exports use, read only weights of this export, and take and give what is planned."""
    places = {(stored.start, stored.bytes) for stored in header.values()}
    graphs: dict[str, Graph] = {}
    for name in sorted({n for plan in exported.plan for n in (plan.part, plan.remember, plan.step)} - {""}):
        graphs[name] = _graph(folder, name, places)
    for plan in exported.plan:
        _takes(plan.part, graphs[plan.part], ((None, None), (None,)), ((None, plan.width),))
        if plan.step:
            _check_steps(exported, plan, graphs)
    if exported.router:
        graph = _graph(folder, exported.router, places)
        _takes(exported.router, graph, ((None, None), (None,)), ((None, len(exported.plan)),))
    if exported.scores:
        graph = _graph(folder, exported.scores, places)
        _takes(exported.scores, graph, ((None, exported.channels),), ((None, exported.data.items),))


def _check_steps(exported: Exported, plan: RoutePlan, graphs: dict[str, Graph]) -> None:
    """The graphs of single steps read and give the memories that are planned."""
    count = len(plan.memories)
    rows = graphs[plan.remember].outputs[1:]
    width = rows[0][1][-1] if rows and rows[0][1] else 0
    if width is None or (count and not width) or any(width % memory.heads for memory in plan.memories):
        raise ValueError(
            f"expected rows of memories that divide by their heads in {plan.remember}, got {width} channels"
        )
    near = sum(len(memory.back) for memory in plan.memories)
    read: list[Shape] = [(None, near * width)] * (near > 0)
    read += [(None, m.heads, exported.max_length, width // m.heads) for m in plan.memories if not m.back]
    states = (None, plan.width)
    _takes(plan.remember, graphs[plan.remember], ((None, None), (None,)), (states, *[(None, None, width)] * count))
    _takes(plan.step, graphs[plan.step], ((None,), (None,), *read), (states, (None, count * width)))


def _graph(folder: Path, name: str, places: set[tuple[int, int]]) -> Graph:
    try:
        graph = read_graph(folder / name)
    except ValueError as error:
        raise ValueError(f"{name} is not a part that runs: {one_line(error)}") from error
    foreign = graph.foreign()
    if foreign is not None:
        raise ValueError(f"expected operators of exports in {name}, got {one_line(repr(foreign))}, which is not run")
    for weight in graph.external:
        if weight.location != WEIGHTS or (weight.offset, weight.size) not in places:
            got = f"{one_line(repr(weight.location))} from byte {weight.offset}"
            raise ValueError(f"expected {name} to read weights of {WEIGHTS} alone, got {got}")
    return graph


def _takes(name: str, graph: Graph, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> None:
    """Sizes that are free in what is expected may be anything; all others must be as expected."""
    for what, expected, got in (("inputs", inputs, graph.inputs), ("outputs", outputs, graph.outputs)):
        shapes = [shape for _, shape in got]
        if len(shapes) != len(expected) or not all(map(_fits, expected, shapes)):
            wanted, found = (one_line([list(shape) for shape in some]) for some in (expected, shapes))
            raise ValueError(f"expected {what} {wanted} of {name}, got {found}")


def _fits(expected: Shape, got: Shape) -> bool:
    return len(expected) == len(got) and all(a is None or a == b for a, b in zip(expected, got, strict=True))
