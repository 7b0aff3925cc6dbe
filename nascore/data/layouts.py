"""How the folders of an image data set tell its classes, where all splits have the same ones.

A folder a class, in one tree that is split or in folders for train, valid and test, whatever they
are called; wrappers that unpacking leaves around are passed through. A layout that can be read in
two ways is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nascore.config import FOLDERS, DataConfig
from nascore.data.classes import SPLITS
from nascore.data.files import Entry, Files
from nascore.data.findings import Finding, Findings, finding
from nascore.data.listing import (
    NO_CLASSES,
    Listing,
    check_class_names,
    check_names,
    tell_left_out,
    tell_unlabelled,
    without_images,
)
from nascore.data.raw import few
from nascore.data.split_names import find_splits, is_neutral, is_unlabelled, split_of, words
from nascore.data.table_layouts import list_by_table
from nascore.data.tree import Folder, Tree
from nascore.errors import InputError

LAYOUT = "layout"
_PIECES = frozenset({"part", "images", "image", "img", "batch", "shard", "chunk", "data", "fold"})
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
        warnings: what is worth knowing.
    """

    parts: dict[str, Folder]
    has_splits: bool
    loose: list[Entry] = field(default_factory=list)
    warnings: list[Finding] = field(default_factory=list)

    def path(self, split: str) -> str:
        return self.parts[split].path if self.has_splits else ""


def list_by_image(files: Files, config: DataConfig, findings: Findings) -> Listing:
    """Images and their classes; raises InputError when there is nothing to look at."""
    tree = Tree(files, config, findings)
    layout = recognise(tree.root, files.root, config)
    if config.labels != FOLDERS:
        listing = list_by_table(tree, files, config, findings, has_classes=_is_clear(layout))
        if listing is not None:
            return listing
    if isinstance(layout, Finding):
        raise InputError([*findings.problems, layout])
    return list_layout(tree, layout, config, findings)


def _is_clear(layout: Layout | Finding) -> bool:
    """Whether the folders tell at least two classes."""
    if isinstance(layout, Finding):
        return False
    return len({name for part in layout.parts.values() for name in part.folders}) > 1


def list_layout(tree: Tree, layout: Layout, config: DataConfig, findings: Findings) -> Listing:
    """The images of a layout that was recognised, by split, class and name."""
    findings.warnings += layout.warnings
    entries: list[Entry] = []
    names: list[str] = []
    counts = dict.fromkeys(SPLITS, 0)
    by_class: dict[str, list[Folder]] = {}
    for split, part in layout.parts.items():
        before = len(entries)
        for name, folder in sorted(part.folders.items()):
            found = folder.all_images()
            if not found:
                findings.problems.append(without_images(folder.path[:-1], config))
            entries += found
            names += [name] * len(found)
            by_class.setdefault(name, []).append(folder)
        counts[split] = len(entries) - before
        if layout.has_splits and not part.folders:
            message = f"{part.path} has no images; add some, or remove the folder"
            findings.problems.append(finding(config, "empty-split", message, [part.path]))
    findings.problems = check_names(entries, findings.problems, config)
    findings.problems += check_class_names(names, config)
    _check_known(layout, config, findings)
    tell_left_out(tree, by_class, config, findings)
    loose = [entry.name for entry in layout.loose]
    why = "they lie in no class folder"
    tell_unlabelled(loose, len(entries), config, findings, why=why)
    return Listing.of(entries, names, num_test=counts["test"], num_valid=counts["valid"])


def _check_known(layout: Layout, config: DataConfig, findings: Findings) -> None:
    if not layout.has_splits:
        return
    train = layout.parts["train"]
    for split, part in layout.parts.items():
        unknown = sorted(part.folders.keys() - train.folders.keys())
        if unknown and split != "train":
            message = f"{part.path} has classes that {train.path} does not have: {few(unknown)}"
            findings.problems.append(finding(config, "unknown-class", message, unknown))
        missing = sorted(train.folders.keys() - part.folders.keys())
        if missing and part.folders:
            message = f"{part.path} has no images of {{count}} classes: {{examples}}"
            findings.warnings.append(finding(config, "missing-class", message, missing))


# --- recognising ----------------------------------------------------------------------------


def recognise(root: Folder, shown: str, config: DataConfig) -> Layout | Finding:
    """The layout of a tree, or why it is not understood.

    Args:
        shown: what a message calls the root.
    """
    base = unwrapped(root)
    by_split = find_splits(base.folders)
    twice = next((names for names in by_split.values() if len(names) > 1), None)
    if twice is not None:
        return _refusal(config, base, f"has {few(twice)} for one split; keep one of them")
    splits = {split: base.folders[names[0]] for split, names in by_split.items()}
    outer = list(splits.values())
    others = [folder for folder in base.bearing if folder not in outer]
    inner = {split: inside(folder) for split, folder in splits.items()}
    flat = {split for split, folder in inner.items() if folder.images and not folder.bearing}
    if not splits:
        return _classes(base, [], config)
    if flat:
        if len(splits) == 1 and len(others) > 1 and not any(o.bearing for o in others):
            return _classes(base, outer, config)
        if "train" in flat or "train" not in inner:
            names = few(inner[split].path for split in sorted(flat))
            return _refusal(
                config, base, f"has images and no class folders in {names}: {{examples}}"
            )
    elif "train" not in splits:
        only = outer[0].path
        return _refusal(
            config,
            base,
            f"has a folder {only} but no train/; add it, or name the inner folder "
            f"(imagefolder:{shown}/{only[:-1]}) to have it split",
            form="",
        )
    return _parts({s: f for s, f in inner.items() if s not in flat}, inner, base, others, config)


def unwrapped(root: Folder) -> Folder:
    """The folder that holds classes or splits: archives are often unpacked into one more."""
    base = root
    while not base.images and len(base.bearing) == 1:
        only = base.bearing[0]
        if only.images or split_named(only, base):
            break
        base = only
    return base


def split_named(folder: Folder, base: Folder) -> bool:
    """Whether a folder is that of a split among those beside it."""
    return any(folder.name in names for names in find_splits(base.folders).values())


def inside(folder: Folder) -> Folder:
    """The same within a split's folder: `train/train/`, `seg_train/seg_train/`, `test/images/`."""
    while not folder.images and len(folder.bearing) == 1:
        only = folder.bearing[0]
        if not (split_of(only.name) or is_neutral(only.name) or only.name == folder.name):
            break
        folder = only
    return folder


def _classes(base: Folder, called_split: Sequence[Folder], config: DataConfig) -> Layout | Finding:
    """One tree of classes.

    Args:
        called_split: classes that have the name of a split; CIFAR-100 has one called train.
    """
    if not base.bearing:
        if not base.images:
            return finding(config, LAYOUT, NO_CLASSES)
        return _refusal(config, base, f"{NO_CLASSES}, only images such as {{examples}}")
    names = [folder.name for folder in base.bearing]
    alike = len(names) > 1 and len({tuple(words(name)) for name in names}) == 1
    if alike and _PIECES & set(words(names[0])):
        message = f"has folders that look like pieces of one set, not classes: {few(names)}"
        return _refusal(config, base, f"{message}; they hold {{examples}}")
    below = [inner for folder in base.bearing for inner in folder.bearing]
    upside_down = [folder.path for folder in below if split_of(folder.name)]
    if upside_down and not any(folder.images for folder in base.bearing):
        return _refusal(config, base, f"has splits inside classes: {few(upside_down)}")
    warnings = _warnings(base, called_split, config)
    return Layout({"train": base}, has_splits=False, loose=base.images, warnings=warnings)


def _warnings(base: Folder, called_split: Sequence[Folder], config: DataConfig) -> list[Finding]:
    found = []
    if called_split:
        message = (
            "class {examples} has the name of a split; it is read as a class beside the others"
        )
        found.append(finding(config, "split-name-class", message, [f.name for f in called_split]))
    nested = [f.path for f in base.bearing if not f.images and len(f.bearing) > 1]
    if nested and len(nested) == len(base.bearing):
        message = (
            "all images lie two folders deep; the outer folders were read as the classes, "
            "{count} of them: {examples}"
        )
        found.append(finding(config, "nested-folders", message, nested))
    return found


def _parts(
    parts: dict[str, Folder],
    inner: dict[str, Folder],
    base: Folder,
    others: Sequence[Folder],
    config: DataConfig,
) -> Layout | Finding:
    """Folders for the splits.

    Args:
        parts: those that have class folders.
        inner: those of all splits.
        others: folders beside them that have images.
    """
    unlabelled = [folder for folder in others if is_unlabelled(folder.name)]
    strange = [folder.name for folder in others if folder not in unlabelled]
    if strange:
        return finding(
            config,
            LAYOUT,
            f"has folders beside {_told(inner)}: {few(strange)}; move their images into "
            "train/CLASS/, valid/CLASS/ or test/CLASS/, or move the folders away",
        )
    warnings: list[Finding] = []
    for part in parts.values():
        named = [folder for folder in part.bearing if split_of(folder.name)]
        if named and (len(named) > 1 or len(part.bearing) < 3):
            paths = few(folder.path for folder in named)
            return _refusal(config, base, f"has folders of splits where classes belong: {paths}")
        if named and not warnings:
            warnings += _warnings(part, named, config)[:1]
    left = [folder for split, folder in inner.items() if split not in parts] + unlabelled
    for folder in left:
        images = folder.all_images()
        message = f"{folder.path} has {{count}} images without labels: {{examples}}; left out"
        names = [entry.name for entry in images]
        warnings.append(finding(config, "unlabelled-files", message, names))
    loose = [entry for part in (base, *parts.values()) for entry in part.images]
    return Layout(parts, has_splits=True, loose=loose, warnings=warnings)


def _told(parts: dict[str, Folder]) -> str:
    names = [folder.path for folder in parts.values()]
    return " and ".join(names) if len(names) < 3 else ", ".join(names)


def _refusal(config: DataConfig, base: Folder, message: str, *, form: str = _FORM) -> Finding:
    """Why a layout is not understood, three of the paths that were seen, and what would be."""
    seen = [entry.name for entry in base.all_images()[:3]]
    if "{examples}" not in message and form:
        message += "; seen were {examples}"
    told = finding(config, LAYOUT, f"{message}; {form}" if form else message, seen)
    return told
