"""The meaning of the folders of a data set: splits and classes."""

from __future__ import annotations

import os
from collections.abc import Collection

from genets.core.errors import DataError
from genets.core.files import normal_name
from genets.core.output_folder import is_marked
from genets.data.folder_scan import FolderScan
from genets.data.left_out import BESIDE_SPLITS, ONLY_FOLDERS, REPEATED, RESULTS
from genets.data.split import name_some
from genets.data.split_names import (
    SPLIT_FOLDERS,
    SPLIT_OF,
    describe_class,
    describe_left_out,
    suggest_names,
)


def find_splits(scan: FolderScan) -> dict[str, str]:
    """The folder of class folders for each split, as a name below the root.

    Without split folders, the root itself holds the class folders of `train`. A split folder that
    is a link to another one counts as missing. Results of genets are no split, whatever the name of
    their folder.

    Raises:
        DataError: two folders name one split, or split folders hold no class folders.
    """
    root, children = scan.root, scan.list_folders("")
    named: dict[str, list[str]] = {split: [] for split in SPLIT_FOLDERS}
    for child in children:
        if child.casefold() in SPLIT_OF and not _is_result(scan, child):
            named[SPLIT_OF[child.casefold()]].append(child)
    holding = {
        split: [name for name in names if scan.list_folders(name)] for split, names in named.items()
    }
    scan.count_beside("")
    all_named = [name for names in named.values() for name in names]
    if not any(holding.values()):
        # A single folder `train` that holds images directly is a class of that name.
        others = set(children) - set(all_named)
        if len(all_named) > 1 and all(_is_result(scan, child) for child in others):
            raise DataError(
                f"folder {root} has {name_some(sorted(all_named))} but no train folder with class "
                "folders"
            )
        return {"train": ""}
    for split, names in holding.items():
        if len(names) > 1:
            raise DataError(
                f"folder {root} has {name_some(names)}, which all name the {split} split; keep "
                "one of them"
            )
    parts = {split: (holding[split] or named[split])[0] for split in named if named[split]}
    if "train" in parts and not holding["train"]:
        raise DataError(
            f"folder {root} has {name_some(sorted(parts.values()))} but no train folder with class "
            "folders"
        )
    for child in sorted(set(children) - set(parts.values())):
        is_result = _is_result(scan, child)
        scan.left_out.add(RESULTS if is_result else BESIDE_SPLITS, child)
        if not is_result:
            scan.remark(describe_left_out(child))
    return _without_links(scan, parts)


def _is_result(scan: FolderScan, child: str) -> bool:
    """Whether genets made a folder below the root.

    A user's own split remains a split where a report was written beside its class folders.
    """
    if scan.examine(child) != "results":
        return False
    if child.casefold() not in SPLIT_OF or is_marked(scan.path(child)):
        return True
    folders = (f"{child}/{name}" for name in scan.list_folders(child))
    return not any(scan.examine(name) == "class" and scan.holds_images(name) for name in folders)


def _without_links(scan: FolderScan, parts: dict[str, str]) -> dict[str, str]:
    """The split folders without those that are links to another one."""
    paths = {split: scan.path(name) for split, name in parts.items()}
    taken = {os.path.realpath(path) for path in paths.values() if not os.path.islink(path)}
    kept = []
    for split in ("train", "test", "validation"):
        if split not in parts:
            continue
        if os.path.islink(paths[split]):
            real = os.path.realpath(paths[split])
            if real in taken:
                scan.left_out.add(REPEATED, parts[split])
                continue
            taken.add(real)
        kept.append(split)
    return {split: name for split, name in parts.items() if split in kept}


def find_classes(scan: FolderScan, part: str, known: Collection[str] = ()) -> dict[str, list[str]]:
    """The folders of each class of a split, as names below the root; by class name, ascending.

    Names that differ only in their Unicode normal form are one class.

    Args:
        scan: the folder of the data set.
        part: the folder of the split.
        known: names of classes, which may hold only folders.

    Raises:
        DataError: there is no class folder.
    """
    if part:
        scan.count_beside(part)
    classes: dict[str, list[str]] = {}
    unused: list[str] = []
    folders = {child: f"{part}/{child}" if part else child for child in scan.list_folders(part)}
    roles = {child: scan.examine(folder) for child, folder in folders.items()}
    own = [child for child, role in roles.items() if role != "results"]
    for child, folder in folders.items():
        role = roles[child]
        is_class = role == "class" or (role == "only folders" and normal_name(child) in known)
        if not part and role != "results":
            scan.remark(describe_class(child, own) if is_class else describe_left_out(child))
        if is_class:
            classes.setdefault(normal_name(child), []).append(folder)
            continue
        scan.left_out.add(RESULTS if role == "results" else ONLY_FOLDERS, folder)
        if role == "only folders":
            unused.append(child)
    if not classes and not known:
        verb = "holds" if len(unused) == 1 else "hold"
        holds = f" ({name_some(unused)} {verb} only folders)" if unused else ""
        hint = f"; try {scan.path(unused[0])}" if len(unused) == 1 and not part else ""
        hint = (suggest_names(unused) if not part else "") or hint
        raise DataError(
            f"folder {scan.path(part)} has no class folders{holds}; it needs one folder of images "
            f"for each class{hint}"
        )
    return dict(sorted(classes.items()))
