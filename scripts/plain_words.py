"""Find words that readers do not grep for, where a standard term exists; part of `make lint`.

    python scripts/plain_words.py [PATH ...]    exit status 1 if one is found

Product code is searched whole, names included, and so are templates, settings and documentation.
Phrases are found across line breaks. Left out are names of tests, old names of settings, and the
generated tables in docs/results.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SEARCHED = (
    "nascore", "components", "pipelines", "benchmarks", "docs", "manifests",
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md",
)  # fmt: skip
SUFFIXES = {".py", ".md", ".j2", ".yaml"}
LEFT_OUT = (ROOT / "docs" / "results", ROOT / "components" / "config" / "renamed.py")
WORDS = {
    "told": "reported, printed, given",
    "beside": "next to, in addition to, also",
    "anew": "again, from scratch",
    "somebody|nobody|someone|a person": "the user, no process, none",
    "judged?|judges|judging": "evaluate, score",
    "(?:go|goes|gone|going|went) on with": "resume, continue",
    "(?:hold|holds|held|holding) against": "compare with",
    "hand(?:s|ed|ing)? (?:over|on)": "export, pass",
    "in vain": "without result, failed",
    "(?:is|are|was|were|be|been|being|goes|went|stays?) away": "is unreachable",
    "crown(?:s|ed)?": "set as champion",
    "exams?": "test set, evaluation",
    "said so|says so|say so": "report it",
    "in words": "as text",
}
SHOWN = "search anew"
"""Name of a branch of a pipeline, which users of Kubeflow read."""
_GAP = r"(?:\s+#)?\s+"  # between the words of a phrase: also the beginning of a line of a comment
FOUND = re.compile(
    "|".join(
        rf"(?P<w{n}>(?<![a-z])(?:{word.replace(' ', _GAP)})(?![a-z]))"
        for n, word in enumerate(WORDS)
    ),
    re.IGNORECASE,
)
_TEST_NAME = re.compile(r"\btest_\w+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def words_in(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield line number, word and replacement of each word that has a plainer one."""
    replacements = list(WORDS.values())
    # Names are words, too: `is_told`, `HandedOn`.
    plain = _HUMP.sub(" ", _TEST_NAME.sub("", text)).replace("_", " ").replace(SHOWN, "search")
    for match in FOUND.finditer(plain):
        number = plain.count("\n", 0, match.start()) + 1
        word = " ".join(match.group().split())
        yield number, word, replacements[int(str(match.lastgroup)[1:])]


def files(paths: list[Path]) -> list[Path]:
    """Return the files to search, sorted."""
    found = {
        file
        for path in paths
        for file in ([path] if path.is_file() else path.rglob("*"))
        if file.suffix in SUFFIXES and not {file, *file.parents}.intersection(LEFT_OUT)
    }
    return sorted(found)


def main(arguments: list[str]) -> int:
    """Print the words found in the given paths, by default in all that is searched."""
    paths = [Path(name).resolve() for name in arguments] or [ROOT / name for name in SEARCHED]
    found = [
        f"{file}:{number}: {word!r}; write {replacement}"
        for file in files(paths)
        for number, word, replacement in words_in(file.read_text(encoding="utf-8"))
    ]
    print("\n".join(found).replace(f"{ROOT}/", ""), end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
