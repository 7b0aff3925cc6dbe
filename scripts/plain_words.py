"""Find words that readers do not grep for, where a standard term exists; part of `make lint`.

    python scripts/plain_words.py [PATH ...]    exit status 1 where one is found

Product code is searched whole, names included, and so are templates and documentation.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SEARCHED = (
    "nascore", "components", "pipelines", "benchmarks", "docs", "manifests",
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md",
)  # fmt: skip
SUFFIXES = {".py", ".md", ".j2", ".yaml"}
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
    "in words": "text",
}
FOUND = re.compile(
    "|".join(rf"(?P<w{n}>(?<![a-z])(?:{word})(?![a-z]))" for n, word in enumerate(WORDS)),
    re.IGNORECASE,
)


def files(paths: list[Path]) -> list[Path]:
    """Return the files to search, sorted; generated tables under docs/results are left out."""
    found = [
        file
        for path in paths
        for file in ([path] if path.is_file() else sorted(path.rglob("*")))
        if file.suffix in SUFFIXES and "results" not in file.relative_to(ROOT).parts[:2]
    ]
    return sorted(set(found))


def lines_found(file: Path) -> list[str]:
    """Return one message for each word in the file that has a plainer one."""
    replacements = list(WORDS.values())
    return [
        f"{file.relative_to(ROOT)}:{number}: {match.group()!r}; write {replacements[index]}"
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        for match in FOUND.finditer(line.replace("_", " "))
        for index in (int(str(match.lastgroup)[1:]),)
    ]


def main(arguments: list[str]) -> int:
    """Print the words found in the given paths, by default in all that is searched."""
    paths = [Path(name).resolve() for name in arguments] or [ROOT / name for name in SEARCHED]
    found = [line for file in files(paths) for line in lines_found(file)]
    print("\n".join(found), end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
