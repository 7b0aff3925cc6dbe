"""What tracking costs, measured as CPU time of the process that replays it."""

import time
from pathlib import Path

from components.tracking import Tracker
from components.tracking.replay import Follower
from components.tracking.system_metrics import _collect, _make_monitors

SEARCH_S = 600


def test_replay_costs_less_than_a_percent_of_the_search(tmp_path: Path, store: str):
    """Ten minutes: sixty samples for two runs, forty children of 15 s, inputs, tables and tags.

    1.0 s of the processor was measured with SQLite, whose work is a part of it: 0.2 %.
    """
    spool = tmp_path / "spool"
    tracker, sampled = Tracker.open(spool, uri=store, experiment="nas"), Tracker(spool, "system")
    follower, monitors = Follower(spool), _make_monitors()
    pipeline = tracker.run("p", name="pipeline")
    search = tracker.run("p.search", name="search", parent="p")
    search.params({f"setting.{number}": number for number in range(90)})
    fields = ("name", "digest", "source_type", "source", "schema", "profile", "context")
    pipeline.inputs([dict.fromkeys(fields, str(number)) for number in range(3)])
    follower.drain(last=False)  # imports, and the first use of the database
    start_s = time.process_time()
    for sample in range(SEARCH_S // 10):
        values = _collect(monitors)
        for key in ("p", "p.search"):
            sampled.append(key, "metrics", values=values, step=sample)
        if sample % 3 < 2:
            now_s = time.time()
            tracker.ended_run(
                f"p.search.child-{sample}",
                name=f"child {sample}",
                parent="p.search",
                params={"arm": "method", "number": sample, "architecture": "x" * 200},
                metrics={name: 0.5 for name in ("valid_accuracy", "train_accuracy", "num_params")},
                tags={"nas.genotype": "chain:1-2-3"},
                seconds=(now_s - 0.001, now_s),
                has_samples=True,
            )
            search.metrics({f"search/method/{name}": 0.5 for name in ("best", "last")}, sample)
        follower.drain(last=False)
    search.table([{"number": number, "accuracy": 0.5} for number in range(40)], "children.json")
    search.end()
    follower.drain(last=True)
    spent_s = time.process_time() - start_s
    assert spent_s < 0.01 * SEARCH_S, spent_s
    assert tracker.spent_s < 0.001 * SEARCH_S
