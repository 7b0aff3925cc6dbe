import pytest

from components.config.merge import layer_of, merge
from components.config.model_tree import keys_of
from components.config.renamed import RENAMED
from components.config.schema import config_class, parse
from nascore.config import SPACE_SECTIONS
from nascore.errors import InputError
from nascore.methods.registry import METHODS

KEYS = {method: set(keys_of(config_class(method))) for method in METHODS}


def space_with(key: str) -> list[str]:
    """The setting that chooses a space which has the key, for keys of spaces."""
    group, _, name = key.rpartition(".")
    names = [one.model_fields["name"].default for one in SPACE_SECTIONS if name in one.model_fields]
    return [f"search.space.name={names[-1]}"] if group == "search.space" else []


@pytest.mark.parametrize("old", RENAMED)
def test_a_renamed_setting_is_refused_with_its_new_name(old: str) -> None:
    """For every method that has the new key and not the old one, from `--set` and from a file."""
    new = RENAMED[old]
    methods = [method for method, keys in KEYS.items() if new in keys and old not in keys]
    assert methods, f"no method has {new}, or all still have {old}"
    for method in methods:
        layer, _ = layer_of([f"method={method}", f"{old}=5", *space_with(new)])
        with pytest.raises(InputError) as caught:
            parse(layer)
        (found,) = (problem for problem in caught.value.problems if problem.key == old)
        assert str(found) == f"{old} = 5: was renamed to {new}; write {new}=5"


def test_several_old_keys_of_one_group_are_reported_one_by_one() -> None:
    layer, _ = layer_of(["train.flip=true", "train.cutout=8", "search.child.device=cuda"])
    with pytest.raises(InputError) as caught:
        parse(merge({"method": "random"}, layer))
    assert [str(problem) for problem in caught.value.problems] == [
        "search.child.device = 'cuda': was renamed to training.device; write training.device=cuda",
        "train.flip = true: was renamed to training.flip; write training.flip=true",
        "train.cutout = 8: was renamed to training.cutout; write training.cutout=8",
    ]


def test_an_unknown_key_next_to_an_old_one_is_reported_as_well() -> None:
    layer, _ = layer_of(
        ["method=nasib", "search.options.logits.reach=5", "search.options.logits.x=1"]
    )
    with pytest.raises(InputError) as caught:
        parse(layer)
    found = {problem.key: problem.message for problem in caught.value.problems}
    assert found["search.options.logits.reach"].startswith("was renamed to")
    assert found["search.options.logits.x"].startswith("unknown key")


def test_a_new_name_that_the_method_does_not_have_is_not_suggested() -> None:
    """Only some methods train shared weights."""
    with pytest.raises(InputError) as caught:
        parse({"method": "random", "search": {"options": {"judge_batch": 5}}})
    assert "unknown key" in str(caught.value)
    assert "renamed" not in str(caught.value)
