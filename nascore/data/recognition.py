"""Recognition of split folders and class folders in a tree.

A layout has a folder for each class, in one tree that will be split or in folders for train, valid
and test in many spellings. Outer folders, which unpacking often adds, are skipped. An ambiguous
layout is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nascore.config import DataConfig
from nascore.data.archives import ENDINGS as ARCHIVES
from nascore.data.file_access import FileEntry
from nascore.data.findings import Finding, finding, join_first
from nascore.data.listing import NO_CLASSES
from nascore.data.split_names import find_splits, is_neutral, is_unlabelled, name_words, split_of
from nascore.data.tree import Folder

LAYOUT = "layout"
_PIECES = frozenset({"part", "images", "image", "img", "batch", "shard", "chunk", "data", "fold"})
_DRAWN = frozenset({"mask", "masks", "label", "labels", "annotation", "annotations", "gt"})
_FORM = (
    "put the images of each class into a folder of its name (CLASS/IMAGE.png, or train/CLASS/ and "
    "test/CLASS/), or name their labels in a table (data.labels)"
)


@dataclass(frozen=True)
class Layout:
    """Folders whose folders are classes.

    Attributes:
        parts: by split; a tree that has no splits of its own is its training part.
        has_splits: whether the parts are the source's own.
        loose: images that lie in no class folder.
        warnings: findings that are no problems.
    """

    parts: dict[str, Folder]
    has_splits: bool
    loose: list[FileEntry] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def path(self, split: str) -> str:
        """Return the path of a split's folder; empty where the tree has no splits."""
        return self.parts[split].path if self.has_splits else ""


def recognise(root: Folder, shown: str, config: DataConfig) -> Layout | Finding:
    """Return the layout of a tree, or why it is not understood.

    Args:
        shown: name of the root in messages.
    """
    base = unwrapped(root)
    around = _images_around(root, base)
    by_split = find_splits(base.folders)
    twice = next((names for names in by_split.values() if len(names) > 1), None)
    if twice is not None:
        return _refusal(config, base, f"has {join_first(twice)} for one split; keep one of them")
    splits = {split: base.folders[names[0]] for split, names in by_split.items()}
    outer = list(splits.values())
    others = [folder for folder in base.bearing if folder not in outer]
    inner = {split: inside(folder) for split, folder in splits.items()}
    flat = {split for split, folder in inner.items() if folder.images and not folder.bearing}
    if not splits:
        return _classes(base, [], around, config)
    if flat:
        if len(splits) == 1 and len(others) > 1 and not any(o.bearing for o in others):
            return _classes(base, outer, around, config)
        if "train" in flat or "train" not in inner:
            names = join_first(inner[split].path for split in sorted(flat))
            message = f"has images and no class folders in {names}: {{examples}}"
            if others and not any(folder.bearing for folder in base.bearing):
                message += " (a folder of this name is a split; rename it if it is a class)"
            return _refusal(config, base, message)
    elif "train" not in splits:
        only = outer[0].path
        other = f" (and {join_first(f.path for f in others)}, no split's name)" if others else ""
        return _refusal(
            config,
            base,
            f"has a folder {only} but no train/{other}; add or rename it, or name the inner "
            f"folder (imagefolder:{shown}/{only[:-1]}) to have it split",
            form="",
        )
    parts = {split: folder for split, folder in inner.items() if split not in flat}
    return _parts(parts, inner, base, others, around, config)


def unwrapped(root: Folder) -> Folder:
    """Return the folder of classes or splits: archives often unpack into an outer one."""
    base = root
    while len(base.bearing) == 1:
        only = base.bearing[0]
        if only.images or split_named(only, base):
            break
        base = only
    return base


def _images_around(root: Folder, base: Folder) -> list[FileEntry]:
    """Return the images in the base and in the folders around it."""
    folder, found = root, list(root.images)
    while folder is not base:
        folder = folder.bearing[0]
        found += folder.images
    return found


def split_named(folder: Folder, base: Folder) -> bool:
    """Return whether a folder is that of a split among its siblings."""
    return any(folder.name in names for names in find_splits(base.folders).values())


def inside(folder: Folder) -> Folder:
    """Return the folder of classes in a split's folder: `train/train/`, `test/images/`."""
    while not folder.images and len(folder.bearing) == 1:
        only = folder.bearing[0]
        if not (split_of(only.name) or is_neutral(only.name) or only.name == folder.name):
            break
        folder = only
    return folder


def _classes(
    base: Folder, called_split: Sequence[Folder], around: list[FileEntry], config: DataConfig
) -> Layout | Finding:
    """Return the layout of one tree of classes.

    Args:
        called_split: classes that have the name of a split; CIFAR-100 has one called train.
        around: images that lie in no class folder.
    """
    if not base.bearing:
        if not base.images:
            return _nothing(base, config)
        return _refusal(config, base, f"{NO_CLASSES}, only images such as {{examples}}")
    names = [folder.name for folder in base.bearing]
    alike = len(names) > 1 and len({tuple(name_words(name)) for name in names}) == 1
    if alike and _PIECES & set(name_words(names[0])):
        message = f"has folders that look like pieces of one set, not classes: {join_first(names)}"
        return _refusal(config, base, f"{message}; they hold {{examples}}")
    reason = _not_classes(base)
    if reason:
        return _refusal(config, base, reason)
    warnings = _warnings(base, called_split, config)
    return Layout({"train": base}, has_splits=False, loose=around, warnings=warnings)


def _not_classes(base: Folder) -> str:
    """Return why the folders of a tree cannot be its classes; empty where they can."""
    below = [inner for folder in base.bearing for inner in folder.bearing]
    inner_splits = [folder for folder in below if split_of(folder.name)]
    has_train = any(split_of(folder.name) == "train" for folder in inner_splits)
    if has_train or (inner_splits and not any(folder.images for folder in base.bearing)):
        paths = join_first(folder.path for folder in inner_splits)
        return f"has splits inside classes: {paths}; name the folder that holds them alone"
    holders = [folder for folder in base.bearing if _has_folders_of_its_own(folder)]
    wrappers = [f.path for f in holders if is_neutral(f.name) and not f.images]
    if wrappers and len(base.bearing) > 1:
        others = join_first(folder.path for folder in base.bearing if folder.path not in wrappers)
        return (
            f"has folders next to {join_first(wrappers)}, which holds folders of its own: {others}"
        )
    if len(base.bearing) == 1 and is_neutral(base.bearing[0].name):
        return f"{NO_CLASSES} in {base.bearing[0].path}, only images"
    return _masks(base.bearing)


def _masks(folders: Sequence[Folder]) -> str:
    """Return why these folders are images and their masks, and no classes; empty otherwise."""
    names = {folder.name for folder in folders}
    drawn = sorted(name for name in names if set(name_words(name)) & _DRAWN)
    pictures = sorted(name for name in names - set(drawn) if is_neutral(name))
    if drawn and pictures and len(names) == len(drawn) + len(pictures):
        return f"has {join_first([*pictures, *drawn])}, which look like images and their masks"
    return ""


def _warnings(base: Folder, called_split: Sequence[Folder], config: DataConfig) -> list[Finding]:
    found = []
    if called_split:
        message = "class {examples} has the name of a split; it is read as a class like the others"
        found.append(finding(config, "split-name-class", message, [f.name for f in called_split]))
    nested = [f.path for f in base.bearing if _has_folders_of_its_own(f) and not f.images]
    if nested:
        message = (
            "images lie two folders deep; the outer folders were read as the classes, {count} of "
            "them: {examples}"
        )
        inner = {tuple(inner.name for inner in f.bearing) for f in base.bearing}
        if len(inner) == 1 and len(nested) > 1:
            message += f"; if {join_first(*inner)} are the classes, move them out of these folders"
        found.append(finding(config, "nested-folders", message, nested))
    return found


def _has_folders_of_its_own(folder: Folder) -> bool:
    """Return whether folders below a class may be the intended classes."""
    return any(not is_neutral(f.name) and f.name != folder.name for f in folder.bearing)


def _parts(
    parts: dict[str, Folder],
    inner: dict[str, Folder],
    base: Folder,
    others: Sequence[Folder],
    around: list[FileEntry],
    config: DataConfig,
) -> Layout | Finding:
    """Return the layout of folders for the splits.

    Args:
        parts: folders of splits that have class folders.
        inner: folders of all splits.
        others: sibling folders that have images.
        around: images in none of them.
    """
    unlabelled = [folder for folder in others if is_unlabelled(folder.name)]
    strange = [folder.name for folder in others if folder not in unlabelled]
    if strange:
        return finding(
            config,
            LAYOUT,
            f"has folders next to {_joined_paths(inner)}: {join_first(strange)}; move their "
            "images into train/CLASS/, valid/CLASS/ or test/CLASS/, or move the folders away",
        )
    warnings: list[Finding] = []
    for part in parts.values():
        reason = _not_classes(part)
        if reason:
            return _refusal(config, base, reason)
        named = [folder for folder in part.bearing if split_of(folder.name)]
        if named and (len(named) > 1 or len(part.bearing) < 3):
            paths = join_first(folder.path for folder in named)
            return _refusal(config, base, f"has folders of splits where classes belong: {paths}")
        if named and not warnings:
            warnings += _warnings(part, named, config)[:1]
    left = [folder for split, folder in inner.items() if split not in parts] + unlabelled
    for folder in left:
        images = folder.all_images()
        message = f"{folder.path} has {{count}} images without labels: {{examples}}; left out"
        names = [entry.name for entry in images]
        warnings.append(finding(config, "unlabelled-files", message, names))
    loose = [entry for part in parts.values() for entry in part.images]
    return Layout(parts, has_splits=True, loose=around + loose, warnings=warnings)


def _nothing(base: Folder, config: DataConfig) -> Finding:
    """Return the finding about a tree without images; it may contain other sources."""
    entries = [table for folder in base.walk() for table in folder.tables]
    entries += base.all_left_out()
    known = [e.name for e in entries if e.name.endswith((".parquet", *ARCHIVES))]
    if not known:
        seen = "; seen were {examples}, and none of them is an image that can be read"
        message = f"{NO_CLASSES}{seen if entries else ''}; {_FORM}"
        return finding(config, LAYOUT, message, [e.name for e in entries])
    message = (
        f"{NO_CLASSES}, and holds {{examples}}; name one of them (parquet:PATH, or imagefolder:"
    )
    return finding(config, LAYOUT, f"{message}PATH of an archive), or unpack them", known)


def _joined_paths(parts: dict[str, Folder]) -> str:
    names = [folder.path for folder in parts.values()]
    return " and ".join(names) if len(names) < 3 else ", ".join(names)


def _refusal(config: DataConfig, base: Folder, message: str, *, form: str = _FORM) -> Finding:
    """Return the finding about an unknown layout, with three paths that were seen and the expected
    form.
    """
    seen = [entry.name for entry in base.all_images()[:3]]
    if "{examples}" not in message and form:
        message += "; seen were {examples}"
    return finding(config, LAYOUT, f"{message}; {form}" if form else message, seen)
