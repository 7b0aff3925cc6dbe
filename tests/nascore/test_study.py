from pathlib import Path

import pytest

from nascore.errors import InputError
from nascore.genotype import Genotype
from nascore.results import ChildScores
from nascore.study import Study, failed, finished

IDENTITY = {"method": "random", "space": "s", "seed": 0}
SCORES = ChildScores(0.5, 0.6, num_params=10, num_steps=3, duration_s=0.1)


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'study.db'}"


def genotype(number: int) -> Genotype:
    return Genotype("s", (number,))


def test_children_survive_the_process_in_order(tmp_path: Path) -> None:
    study = Study(url(tmp_path), "method", IDENTITY)
    made = []
    for number in range(3):
        assert study.start() == number
        started = study.propose(number, genotype(number))
        child = (
            failed(number, genotype(number), "loss is nan", started)
            if number == 1
            else finished(number, genotype(number), SCORES, started)
        )
        study.finish(child)
        made.append(child)
    assert Study(url(tmp_path), "method", IDENTITY).children() == made
    assert Study(url(tmp_path), "control", IDENTITY).children() == []


def test_an_interrupted_child_is_tried_again_under_its_number(tmp_path: Path) -> None:
    study = Study(url(tmp_path), "method", IDENTITY)
    study.finish(finished(study.start(), genotype(0), SCORES, 0.0))
    number = study.start()
    study.propose(number, genotype(1))  # and here the process dies
    again = Study(url(tmp_path), "method", IDENTITY)
    assert len(again.children()) == 1
    assert again.start() == number
    assert again.start() == number + 1


def test_a_child_with_scores_is_never_trained_twice(tmp_path: Path) -> None:
    """Scores are written first and the trial is closed after: death in between loses nothing."""
    study = Study(url(tmp_path), "method", IDENTITY)
    child = finished(study.start(), genotype(0), SCORES, 0.0)
    study._set(0, "child", child.to_dict())  # the first half of `finish`
    again = Study(url(tmp_path), "method", IDENTITY)
    assert again.children() == [child]
    assert again.start() == 1
    again.finish(child)  # harmless
    assert again.children() == [child]


def test_a_study_of_another_search_is_refused_and_says_what_differs(tmp_path: Path) -> None:
    Study(url(tmp_path), "method", IDENTITY)
    with pytest.raises(InputError, match="seed was 0"):
        Study(url(tmp_path), "method", {**IDENTITY, "seed": 1})
