"""Comparison of the found network with others on the same images: accuracy, latency, size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nascore.context import SearchContext, device_of
from nascore.data.batches import Split
from nascore.evaluation.mcnemar import mcnemar
from nascore.reference.recommendation import Contender, recommend
from nascore.training.final_model import FinalModel
from nascore.training.network_kinds import Examples, kind_of
from nascore.training.prediction import predict

Kind = Literal["found", "control", "standard", "torchvision"]


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained network of a comparison.

    Attributes:
        kind: `control` for the best architecture of the random control.
    """

    name: str
    kind: Kind
    final: FinalModel


def compare(
    context: SearchContext,
    found: Trained,
    others: Sequence[Trained],
    *,
    examples: Callable[[], Examples],
    over_limit: Callable[[Mapping[str, Any]], str | None],
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return rows of all networks, and which of them to ship, as JSON, and their latencies.

    Latencies are measured one after the other by the protocol of the run. The test images are
    evaluated with the weights at the end of each training; nothing is chosen by them.

    Args:
        context: of the run.
        found: network of the search.
        others: networks that it is compared with.
        examples: reads real data, for kinds of networks whose latency depends on the images.
        over_limit: returns why the network of a row must not be shipped, if there is a limit; the
            found one is always allowed.

    Returns:
        `found`, `control` (None without one) and `references` as rows, and `recommendation`; and
        the content of `latency.json` of each network by name.
    """
    rows, contenders, latencies, right_N = [], [], {}, None
    for one in (found, *others):
        kind = kind_of(one.final.network)
        measured, more = kind.profile(one.final, context.latency, examples)
        latencies[one.name] = {**measured.to_dict(), **more}
        one.final.network.to(device_of(context.final))
        correct_N = _correct(one.final, context.splits.test)
        right_N = correct_N if right_N is None else right_N
        row = _row(context, one) | {"latency_ms": measured.p50_ms}
        if one is not found:
            row |= {
                "difference": float(right_N.mean() - correct_N.mean()),
                "p_value": mcnemar(right_N, correct_N),
                "over_limit": over_limit(row),
            }
        rows.append(row)
        if row.get("over_limit") is None:
            contenders.append(_contender(context, row, one.final))
    recommended = recommend(
        contenders,
        context.splits.valid.labels.cpu().numpy(),
        objective=context.search.objective,
        rng=context.seeds.numpy("reference", "recommendation"),
    )
    excluded = [row for row in rows if row.get("over_limit") is not None]
    why = "".join(f" {row['name']} is not recommended: {row['over_limit']}." for row in excluded)
    controls = [row for row in rows if row["kind"] == "control"]
    compared = {
        "found": rows[0],
        "control": controls[0] if controls else None,
        "references": [row for row in rows[1:] if row["kind"] != "control"],
        "recommendation": {"ship": recommended.ship, "why": recommended.why + why},
    }
    return compared, latencies


def _row(context: SearchContext, one: Trained) -> dict[str, Any]:
    final = one.final
    epoch = context.splits.train.steps_per_epoch(context.final)
    return {
        "name": one.name,
        "kind": one.kind,
        "test_accuracy": final.test_accuracy,
        "valid_accuracy": final.valid_accuracy,
        "valid_score": final.valid_accuracy if final.valid_score is None else final.valid_score,
        "params": final.num_params,
        "macs": final.macs,
        "seconds": final.duration_s,
        "epochs": round(final.num_steps / epoch, 1),
    }


def _contender(context: SearchContext, row: Mapping[str, Any], final: FinalModel) -> Contender:
    logits_NK = predict(final.network, context.splits.valid)
    return Contender(
        row["name"], row["valid_score"], row["latency_ms"], logits_NK.float().cpu().numpy()
    )


def _correct(final: FinalModel, split: Split) -> NDArray[np.bool_]:
    """Return whether each image of a split is classified correctly."""
    answer_N = predict(final.network, split).argmax(1)
    correct_N: NDArray[np.bool_] = (answer_N == split.labels).cpu().numpy()
    return correct_N
