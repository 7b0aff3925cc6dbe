"""Names of folders, files and values for train, valid and test."""

import re
from collections.abc import Iterable, Mapping

from nascore.data.class_splits import SPLITS

_SYNONYMS = {
    "train": {"train", "training", "trn", "trainval"},
    "valid": {"valid", "validation", "val", "validate", "dev", "development", "devel"},
    "test": {"test", "testing", "tst", "eval", "evaluation", "evaluate"},
}
_SPLIT_OF = {word: split for split, synonyms in _SYNONYMS.items() for word in synonyms}
# Words that say nothing: `train_images`, `TestSet`, `validation-data`, `train2017`.
_NEUTRAL = {
    *("set", "sets", "data", "dataset", "split", "part", "folder", "dir", "file", "files"),
    *("image", "images", "img", "imgs", "picture", "pictures", "pic", "pics", "photo", "photos"),
    *("final", "official", "public", "private"),
}
_OF_TABLES = {"label", "labels", "annotation", "annotations", "list", "classes", "info", "meta"}
_UNLABELLED = {"pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled", "unsup"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+")


def name_words(name: str) -> list[str]:
    """Return the words of a name in lower case: `SegTrain_2` has `seg` and `train`."""
    return [word.lower() for word in _WORD.findall(name)]


def split_of(name: str) -> str | None:
    """Return the split that a name means and nothing else; None for any other name."""
    split, rest = _divide(name)
    return split if not rest else None


def split_of_table(name: str) -> str | None:
    """Return the split of a table by its name without ending, such as `train_labels`."""
    split, rest = _divide(name)
    return split if set(rest) <= _OF_TABLES else None


def is_neutral(name: str) -> bool:
    """Return whether a folder name says nothing about its content: `images`, `data`."""
    found = name_words(name)
    return bool(found) and set(found) <= _NEUTRAL


def is_unlabelled(name: str) -> bool:
    """Return whether a name says that its images have no labels."""
    return bool(_UNLABELLED & set(name_words(name)))


def find_splits(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names that mean splits, by split.

    Names such as `seg_train` and `seg_test` mean splits together: all have the same other words.
    """
    names = list(names)
    found: dict[str, list[str]] = {}
    by_rest: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name in names:
        split, rest = _divide(name)
        if split is None:
            continue
        target = by_rest.setdefault(rest, {}) if rest else found
        target.setdefault(split, []).append(name)
    for splits in by_rest.values():
        if len(splits) > 1 and not found and "train" in splits:
            return _ordered(splits)
    return _ordered(found)


def _ordered(splits: Mapping[str, list[str]]) -> dict[str, list[str]]:
    return {split: sorted(splits[split]) for split in SPLITS if split in splits}


def _divide(name: str) -> tuple[str | None, tuple[str, ...]]:
    """Return the split and the other meaningful words of a name; no split where it has two."""
    splits, rest = [], []
    for word in name_words(name):
        split = _SPLIT_OF.get(word) or _glued(word)
        if split is not None:
            splits.append(split)
        elif word not in _NEUTRAL:
            rest.append(word)
    return (splits[0] if len(splits) == 1 else None), tuple(rest)


def _glued(word: str) -> str | None:
    """Return the split of a compound: `trainset`, `testimages`, `imagestest`."""
    for neutral in _NEUTRAL:
        for part in (word.removesuffix(neutral), word.removeprefix(neutral)):
            if part != word and part in _SPLIT_OF:
                return _SPLIT_OF[part]
    return None
