"""Files of a teacher, and their copies where they are in S3.

A teacher is recognised by the file that describes it; of a prefix with other files next to it, only
those of the teacher are copied.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from components.export.manifest import GENOTYPE, WEIGHTS
from components.object_store.client import Store
from components.object_store.downloads import download
from components.object_store.objects import list_objects, look, look_for, parsed
from nascore.training.ensemble import MEMBERS

FINAL, MLFLOW, PROGRAM = "model.json", "MLmodel", ".pt2"
FORMS = (
    "write a registered model (NAME, NAME@ALIAS or NAME/VERSION), the folder of a final or an "
    "exported model, or an exported program (.pt2); folder and program may be s3:// URIs"
)

_FILES: dict[str, tuple[str, ...]] = {
    FINAL: (FINAL, "weights.pt"),
    GENOTYPE: (GENOTYPE, WEIGHTS),
    MEMBERS: (),
    MLFLOW: (),
}
"""Files of each kind of folder, by the one that describes it; empty stands for all files in it."""
KINDS = tuple(_FILES)


@dataclass(frozen=True, slots=True)
class TeacherFiles:
    """Objects of a teacher.

    Attributes:
        root: URI of the folder of all of them.
        names: below the root.
        program: name of the exported program; empty where the folder is the teacher.
    """

    root: str
    names: tuple[str, ...]
    program: str = ""

    def copy(self, folder: Path, *, store: Store) -> Path:
        """Copy the files to a folder, and return the path of the teacher in it.

        Raises:
            InputError: an object is missing, damaged, or cannot be read.
        """
        for name in self.names:
            download(f"{self.root}/{name}", folder / name, store=store)
        return folder / self.program


def find_files(uri: str, *, store: Store) -> TeacherFiles:
    """Return the objects of the teacher at a URI.

    Args:
        uri: of an exported program, or of a folder.
        store: reports problems of `training.teacher`.

    Raises:
        InputError: there is no teacher at the URI, or the store cannot be read.
    """
    parsed(uri, store)
    uri = uri.rstrip("/")
    return _of_program(uri, store) if uri.endswith(PROGRAM) else _of_folder(uri, store)


def _of_program(uri: str, store: Store) -> TeacherFiles:
    """Return an exported program with its description, next to it or one folder above.

    Without a description the program is alone, and is refused when it is loaded.
    """
    look(uri, store=store)
    for root in _folders_above(uri):
        for name in (MLFLOW, GENOTYPE):
            if look_for(f"{root}/{name}", store=store) is not None:
                program = uri.removeprefix(f"{root}/")
                return TeacherFiles(root, (name, program), program)
    root, _, program = uri.rpartition("/")
    return TeacherFiles(root, (program,), program)


def _folders_above(uri: str) -> Iterator[str]:
    """Yield the URI of the folder of an object, and that of the folder above it, if there is one.

    The first folder of a bucket has the bucket above it.
    """
    folder = uri.rpartition("/")[0]
    yield folder
    above = folder.rpartition("/")[0]
    if above != "s3:/":
        yield above


def _of_folder(uri: str, store: Store) -> TeacherFiles:
    found = (kind for kind in KINDS if look_for(f"{uri}/{kind}", store=store) is not None)
    kind = next(found, None)
    if kind is not None:
        return TeacherFiles(uri, _FILES[kind] or tuple(_names(uri, store)))
    if next(_names(uri, store), None) is None:
        message = "there is no object below it; correct the bucket or the prefix"
        raise store.problem(uri, message)
    raise store.problem(uri, f"contains none of {', '.join(KINDS)}; {FORMS}")


def _names(uri: str, store: Store) -> Iterator[str]:
    """Yield the names of the objects below a folder, without the markers of folders."""
    start = len(parsed(f"{uri}/", store)[1])
    names = (item.key[start:] for item in list_objects(f"{uri}/", store=store))
    return (name for name in names if not name.endswith("/"))
