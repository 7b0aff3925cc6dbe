"""Layouts whose splits all have the same classes: by folders, or by tables."""

from nascore.config import FOLDERS, DataConfig
from nascore.data.class_splits import SPLITS
from nascore.data.file_access import FileEntry, Files
from nascore.data.findings import Finding, Findings, finding, join_first
from nascore.data.listing import (
    Listing,
    check_class_names,
    check_names,
    report_left_out,
    report_unlabelled,
    without_images,
)
from nascore.data.recognition import Layout, recognise
from nascore.data.table_layouts import list_by_table
from nascore.data.tree import Folder, Tree
from nascore.errors import InputError


def list_by_image(files: Files, config: DataConfig, findings: Findings) -> Listing:
    """Return images and their classes.

    Raises:
        InputError: There is nothing to read.
    """
    tree = Tree(files, config, findings)
    layout = recognise(tree.root, files.root, config)
    if config.labels != FOLDERS:
        listing = list_by_table(
            tree,
            files,
            config,
            findings,
            has_classes=_is_clear(layout),
            has_splits=isinstance(layout, Layout) and layout.has_splits,
        )
        if listing is not None:
            return listing
    if isinstance(layout, Finding):
        raise InputError([*findings.problems, layout])
    return list_layout(tree, layout, config, findings)


def _is_clear(layout: Layout | Finding) -> bool:
    """Return whether the folders name at least two classes."""
    if isinstance(layout, Finding):
        return False
    return len({name for part in layout.parts.values() for name in part.folders}) > 1


def list_layout(tree: Tree, layout: Layout, config: DataConfig, findings: Findings) -> Listing:
    """Return the images of a recognised layout, by split, class and name."""
    findings.warnings += layout.warnings
    entries: list[FileEntry] = []
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
            by_class.setdefault(f"class {name}", []).append(folder)
        counts[split] = len(entries) - before
        if layout.has_splits and not part.folders:
            message = f"{part.path} has no images; add some, or remove the folder"
            findings.problems.append(finding(config, "empty-split", message, [part.path]))
    findings.problems = check_names(entries, findings.problems, config)
    findings.problems += check_class_names(names, config)
    _check_known(layout, config, findings)
    report_left_out(tree, by_class, config, findings)
    loose = [entry.name for entry in layout.loose]
    why = "they lie in no class folder"
    report_unlabelled(loose, len(entries), config, findings, why=why)
    return Listing.of(entries, names, num_test=counts["test"], num_valid=counts["valid"])


def _check_known(layout: Layout, config: DataConfig, findings: Findings) -> None:
    if not layout.has_splits:
        return
    train = layout.parts["train"]
    for split, part in layout.parts.items():
        unknown = sorted(part.folders.keys() - train.folders.keys())
        if unknown and split != "train":
            message = (
                f"{part.path} has classes that {train.path} does not have: {join_first(unknown)}"
            )
            message += "; add training images of them, or remove or rename the folders"
            findings.problems.append(finding(config, "unknown-class", message, unknown))
        missing = sorted(train.folders.keys() - part.folders.keys())
        if missing and part.folders:
            message = f"{part.path} has no images of {{count}} classes: {{examples}}"
            findings.warnings.append(finding(config, "missing-class", message, missing))
