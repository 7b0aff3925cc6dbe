import subprocess
import sys

import numpy as np
import pytest

from nascore.errors import GenotypeNotInSpace
from nascore.genotype import Genotype
from nascore.seeding import Seeds


def test_json_round_trip_and_golden_form() -> None:
    genotype = Genotype("chain-2x4-v8", (np.int64(0), 7))  # type: ignore[arg-type]
    assert genotype.to_json() == '{"space":"chain-2x4-v8","tokens":[0,7],"version":1}'
    assert Genotype.from_json(genotype.to_json()) == genotype


def test_hash_is_the_same_in_another_process() -> None:
    code = "from nascore.genotype import Genotype; print(Genotype('s', (1, 2)).hash)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == Genotype("s", (1, 2)).hash


def test_floats_that_kfp_makes_of_integers_are_read() -> None:
    data = {"version": 1.0, "space": "s", "tokens": [1.0, 2.0]}
    assert Genotype.from_dict(data) == Genotype("s", (1, 2))


@pytest.mark.parametrize(
    "data",
    [
        {"version": 2, "space": "s", "tokens": [1]},
        {"version": 1, "tokens": [1]},
        {"version": 1, "space": "s", "tokens": [1.5]},
        {"version": 1, "space": "s", "tokens": "x"},
    ],
)
def test_what_is_no_genotype_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(GenotypeNotInSpace):
        Genotype.from_dict(data)


def test_streams_differ_by_seed_and_name_and_repeat() -> None:
    draws = {
        (seed, name): Seeds(seed).numpy(name, 1).random() for seed in (0, 1) for name in ("a", "b")
    }
    assert len(set(draws.values())) == 4
    assert Seeds(0).numpy("a", 1).random() == draws[0, "a"]
    assert Seeds(0).integer("a") != Seeds(0).integer("a", 0)
