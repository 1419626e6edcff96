"""AdaRec's distillation: the terms against loops and a linear program, what counts, and what the teacher is kept from."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from leanrec.core.errors import ConfigError
from leanrec.core.recommender import Recommender
from leanrec.core.tied import stored
from leanrec.core.types import Batch
from leanrec.cost.count import cost
from leanrec.items import softmax
from leanrec.techniques.adarec.distil import Distiller, divergences, known_of
from leanrec.techniques.adarec.student import Distillation
from leanrec.techniques.adarec.transport import cheapest_flow, flow_solver, reweighted
from toys import random_batch, randomise
from unit.techniques.adarec.adarecs import ITEMS, LONGEST, student, teacher

GIVEN = {"architecture": ["conv3", "skip", "conv3x2"]}


def taught(of: Recommender | None = None, **fields: Any) -> Recommender:
    """A student of a given architecture, with a teacher."""
    model, _ = student(GIVEN, **fields)
    randomise(model, 0.2)
    model.learn_from(of or teacher())
    return model.eval()


def distiller(model: Recommender) -> Distiller:
    assert isinstance(model.criterion, Distillation) and model.criterion.distiller is not None
    return model.criterion.distiller


def terms(model: Recommender, batch: Batch) -> dict[str, Tensor]:
    return {name: term.detach() for name, term in model.loss(batch).items()}


@pytest.mark.parametrize("direction", ["teacher", "student"])
def test_divergences_are_means_over_tokens_of_every_pair(direction: str) -> None:
    """Fault 8: the published code takes the side it says it does not, and sums over steps."""
    ours, theirs = torch.randn(2, 7, 5), torch.randn(3, 7, 5)
    found = divergences(ours, known_of(list(theirs), direction))
    for i in range(2):
        for j in range(3):
            p, q = (
                x.softmax(-1).double()
                for x in ((theirs[j], ours[i]) if direction == "teacher" else (ours[i], theirs[j]))
            )
            assert float(found[i, j]) == pytest.approx(float((p * (p / q).log()).sum(-1).mean()), rel=1e-4)


def test_bfloat16_outside_does_not_round_sums_over_tokens() -> None:
    theirs = list(torch.randn(3, 500, 5))
    with torch.autocast("cpu", torch.bfloat16):
        found = known_of(theirs, "teacher")
    expected = known_of(theirs, "teacher")
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("sizes", [(4, 8), (3, 3), (2, 5), (1, 4)])
def test_the_flow_is_that_of_the_linear_program(sizes: tuple[int, int]) -> None:
    draw = np.random.default_rng(0)
    ours, theirs = (draw.dirichlet(np.ones(size)) for size in sizes)
    distance = draw.random(sizes)
    flow = cheapest_flow(torch.from_numpy(ours), torch.from_numpy(theirs), torch.from_numpy(distance))
    np.testing.assert_allclose(flow.sum(1), ours, atol=1e-9)
    np.testing.assert_allclose(flow.sum(0), theirs, atol=1e-9)
    rows = [np.kron(np.eye(sizes[0])[i], np.ones(sizes[1])) for i in range(sizes[0])]
    columns = [np.kron(np.ones(sizes[0]), np.eye(sizes[1])[j]) for j in range(sizes[1])]
    best = linprog(distance.ravel(), A_eq=np.array(rows + columns), b_eq=np.concatenate([ours, theirs]))
    assert float((flow * torch.from_numpy(distance)).sum()) == pytest.approx(best.fun, abs=1e-9)


def test_layers_that_are_matched_cheaply_get_more_of_the_flow() -> None:
    weights, work = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.5, 0.6, 0.8]).double()
    unit = (work / weights).numpy()
    ratio = unit.sum() / unit / 10
    expected = np.exp(ratio) / np.exp(ratio).sum()
    np.testing.assert_allclose(reweighted(weights, work), expected)
    nothing = reweighted(weights, torch.tensor([0.0, 0.6, 0.8]).double())
    assert nothing.isfinite().all() and float(nothing.sum()) == pytest.approx(1)
    assert nothing.argmin() == 0


def test_weights_follow_the_flow_in_training_only_and_only_if_asked() -> None:
    batch = random_batch(ITEMS, [3, 8, 5])
    for adaptive, training in ((True, True), (True, False), (False, True)):
        model = taught(adaptive=adaptive).train(training)
        model.loss(batch)
        moved = not torch.allclose(distiller(model).student_weights, torch.full((2,), 0.5).double(), atol=1e-6)
        assert moved == (adaptive and training)
        assert {
            "criterion.distiller.student_weights",
            "criterion.distiller.teacher_weights",
        } <= model.state_dict().keys()


def test_the_hidden_term_is_the_flow_times_the_distances() -> None:
    model, batch = taught(embedding=0, logits=0, adaptive=False), random_batch(ITEMS, [3, 8, 5])
    index, _ = batch.scored()
    layers = model.backbone.encode(batch, keep_layers=True).layers
    known = distiller(model).teacher.backbone.encode(batch, keep_layers=True).layers
    ours, theirs = (torch.stack([layer.flatten(0, 1)[index] for layer in side]) for side in (layers, known))
    distance = divergences(distiller(model).hidden(ours), known_of(list(theirs), "teacher"))
    flow = cheapest_flow(torch.full((2,), 0.5).double(), torch.full((5,), 0.2).double(), distance)
    torch.testing.assert_close(model.loss(batch)["hidden"], 0.5 * (flow.float() * distance).sum())


def test_a_fixed_map_compares_blocks_at_the_same_share_of_the_depth() -> None:
    model = taught(mapping="fixed")
    ours, theirs = torch.randn(2, 6, 8), torch.randn(5, 6, 12)
    distance = divergences(distiller(model).hidden(ours), known_of(list(theirs), "teacher"))
    torch.testing.assert_close(
        distiller(model)._hidden(ours, known_of(list(theirs), "teacher")), (distance[0, 1] + distance[1, 4]) / 2
    )


@pytest.mark.parametrize("mapping", ["emd", "fixed"])
@pytest.mark.parametrize("candidates", [0, 4])
def test_padding_takes_no_part(mapping: str, candidates: int) -> None:
    """Faults 3 and 8: pads contributed to every term."""
    model = taught(mapping=mapping, candidates=candidates)
    batch = random_batch(ITEMS, [3, 4, 2])
    assert batch.targets is not None
    room = torch.zeros(3, 3, dtype=torch.int64)
    wide = Batch(torch.cat([batch.items, room + 7], 1), batch.lengths, torch.cat([batch.targets, room], 1))
    torch.manual_seed(1)
    first = terms(model, batch)
    torch.manual_seed(1)
    second = terms(model, wide)
    assert first.keys() == {"nll", "embedding", "hidden", "logits"}
    for name, term in first.items():
        torch.testing.assert_close(second[name], term, msg=name)


def test_terms_do_not_grow_with_users_or_steps() -> None:
    """Fault 8: terms were sums over steps."""
    model, batch = taught(), random_batch(ITEMS, [8, 8])
    assert batch.targets is not None
    twice = Batch(batch.items.repeat(3, 1), batch.lengths.repeat(3), batch.targets.repeat(3, 1))
    for name, term in terms(model, batch).items():
        torch.testing.assert_close(terms(model, twice)[name], term, msg=name)


def test_the_logit_term_is_the_divergence_over_the_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = taught(embedding=0, hidden=0), random_batch(ITEMS, [3, 8, 5])
    index, _ = batch.scored()
    p, q = (
        m.items.score(m.backbone.encode(batch).states.flatten(0, 1)[index]).softmax(-1)
        for m in (distiller(model).teacher, model)
    )
    expected = 0.5 * (p * (p / q).log()).sum(-1).mean()
    whole = model.loss(batch)["logits"]
    torch.testing.assert_close(whole, expected)
    monkeypatch.setattr(softmax, "SOFT_LOGITS_AT_ONCE", 5 * ITEMS)
    monkeypatch.setattr(softmax, "STATES_MULTIPLE", 1)
    chunked = model.loss(batch)["logits"]
    torch.testing.assert_close(chunked, whole)
    parameters = list(model.backbone.parameters())
    for one, other in zip(
        *(torch.autograd.grad(t, parameters, allow_unused=True) for t in (whole, chunked)), strict=True
    ):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    model = taught(teacher("cells", width=8, layers=2, nodes=2, **GIVEN))
    model.backbone.load_state_dict(distiller(model).teacher.backbone.state_dict())
    with torch.no_grad():
        for layer in (distiller(model).embedding, distiller(model).hidden):
            nn.init.eye_(layer.weight)
            layer.bias.zero_()
        distiller(model).teacher_weights.copy_(distiller(model).student_weights)
    found = terms(model, random_batch(ITEMS, [3, 8, 5]))
    assert {name: round(float(term), 5) for name, term in found.items() if name != "nll"} == {
        "embedding": 0.0,
        "hidden": 0.0,
        "logits": 0.0,
    }


def test_the_share_weighs_task_and_teacher() -> None:
    batch = random_batch(ITEMS, [3, 8, 5])
    known = teacher()
    torch.manual_seed(3)
    low = terms(taught(known, distil=0.2), batch)
    torch.manual_seed(3)
    high = terms(taught(known, distil=0.6, logits=3.0), batch)
    assert float(high["nll"] / low["nll"]) == pytest.approx(0.4 / 0.8)
    assert float(high["hidden"] / low["hidden"]) == pytest.approx(0.6 / 0.2)
    assert float(high["logits"] / low["logits"]) == pytest.approx(3 * 0.6 / 0.2)


def test_the_teacher_is_outside_the_model_and_learns_nothing() -> None:
    """Fault 10: gradients were computed through the teacher."""
    known = teacher()
    before = {key: value.clone() for key, value in known.state_dict().items()}
    model = taught(known)
    bare, _ = student(GIVEN, distil=0.0)
    assert cost(model, LONGEST).flops == cost(bare, LONGEST).flops
    assert not {id(p) for p in known.parameters()} & {id(p) for p in model.parameters()}
    assert {key for key in stored(model) if not key.startswith("criterion.")} == set(stored(bare))
    model.train()
    assert not known.training
    sum(model.loss(random_batch(ITEMS, [3, 8, 5])).values()).backward()  # pyright: ignore
    assert all(p.grad is None for p in known.parameters())
    assert all(torch.equal(value, before[key]) for key, value in known.state_dict().items())
    assert all(p.grad is not None for p in model.parameters())


def test_a_bidirectional_teacher_never_reads_the_items_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 2: its states inside a sequence were copies of the next item."""
    known = teacher("bert4rec", heads=2)
    model, batch = taught(known), random_batch(ITEMS, [8, 8, 8])
    assert batch.targets is not None
    read: list[Batch] = []
    encode = known.backbone.encode
    monkeypatch.setattr(known.backbone, "encode", lambda *a, **rest: (read.append(a[0]), encode(*a, **rest))[1])
    for _ in range(20):
        read.clear()
        ours, ids, targets, states, blocks = distiller(model).ask(batch)
        (asked,) = read[:1]
        assert len(ours) == 3 and blocks is not None and blocks.table.shape[1] == 3 * known.backbone.width
        for user, place in enumerate(ours.tolist()):
            step = place - user * 8
            assert int(targets[user]) == int(batch.targets[user, step])
            assert int(ids[user]) == int(batch.items[user, step])
            history = batch.items[user, : step + 1].tolist()
            row = asked.items[user, : int(asked.lengths[user])].tolist()
            assert row[:-1] == history[-len(row) + 1 :] and row[-1] == -1  # the mask stands for what comes next
            expected = known.represent(Batch(torch.tensor([history]), torch.tensor([step + 1])))[0]
            torch.testing.assert_close(states[user], expected)


def test_blocks_that_are_not_compared_are_not_kept() -> None:
    model, batch = taught(hidden=0.0), random_batch(ITEMS, [3, 8, 5])
    assert distiller(model).ask(batch).known is None
    assert terms(model, batch).keys() == {"nll", "embedding", "logits"}


def test_a_bidirectional_teacher_teaches() -> None:
    found = terms(taught(teacher("bert4rec", heads=2)), random_batch(ITEMS, [1, 8, 5]))
    assert all(term.isfinite() and term > 0 for term in found.values())


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as refused:
        act()
    return str(refused.value)


def test_a_teacher_is_needed() -> None:
    for shape in (GIVEN, {}):
        model, _ = student(shape)
        assert refusal(lambda model=model: model.learn_from(None)) == (
            "expected train.teacher, a finished run to learn from, got none; name it with --teacher RUN, or set "
            "technique.adarec.distil=0 to do without"
        )


def test_a_teacher_that_nobody_listens_to_is_refused() -> None:
    model, _ = student(GIVEN, distil=0.0)
    expected = (
        "expected no train.teacher, since no technique of this run learns from one; drop it, or add one that distils"
    )
    assert refusal(lambda: model.learn_from(teacher())) == expected
    assert refusal(lambda: teacher().learn_from(teacher())) == expected
    model.learn_from(None)


def test_a_teacher_that_reads_less_is_refused() -> None:
    model, _ = student(GIVEN)
    assert refusal(lambda: model.learn_from(teacher(max_length=5))) == (
        "expected a train.teacher that reads backbone.max_length = 8 events, got one that reads 5; backbone.max_length=5 would work"
    )


def test_without_the_solver_emd_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("ot"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert refusal(flow_solver) == (
        "expected the package POT for technique.adarec.mapping=emd, got none; install it with pip install 'leanrec[adarec]', "
        "or set technique.adarec.mapping=fixed"
    )
    model, _ = student(GIVEN)
    assert refusal(lambda: model.learn_from(teacher())).startswith("expected the package POT")
    for fields in ({"mapping": "fixed"}, {"hidden": 0.0}):
        other, _ = student(GIVEN, **fields)
        other.learn_from(teacher())
