"""Adds Debian's packages to a bill of materials in CycloneDX's JSON form.

Run while the image is built: `python sbom.py PYTHON_PACKAGES.json OUTPUT.json`. The Python packages
come from cyclonedx-py, which does not know those of the distribution.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

_FIELDS = "${binary:Package}\t${Version}\t${Architecture}\t${source:Package}\t${db:Status-Status}\n"


def component(line: str, distribution: str) -> dict[str, str] | None:
    """A component for one line of dpkg-query; None for a package that is not installed."""
    name, version, architecture, source, status = line.split("\t")
    if status != "installed":
        return None
    name = name.partition(":")[0]
    where = f"arch={architecture}&distro={distribution}&upstream={quote(source)}"
    url = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?{where}"
    return {"type": "library", "bom-ref": url, "name": name, "version": version, "purl": url}


def distribution(release: str) -> str:
    """Name of the distribution, such as `debian-12`, from the text of /etc/os-release."""
    fields = dict(line.split("=", 1) for line in release.splitlines() if "=" in line)
    return "-".join(fields[name].strip('"') for name in ("ID", "VERSION_ID"))


def merged(bill: dict[str, Any], lines: list[str], release: str) -> dict[str, Any]:
    """The bill with the packages that dpkg-query named."""
    found = [component(line, distribution(release)) for line in lines]
    return bill | {"components": [*bill["components"], *(one for one in found if one)]}


def main() -> None:
    """Read one bill, write another."""
    source, target = map(Path, sys.argv[1:])
    query = ["dpkg-query", "--show", f"--showformat={_FIELDS}"]
    packages = subprocess.run(query, capture_output=True, text=True, check=True)
    bill = merged(
        json.loads(source.read_text()),
        packages.stdout.splitlines(),
        Path("/etc/os-release").read_text(),
    )
    target.write_text(json.dumps(bill, indent=1) + "\n")
    print(f"{len(bill['components'])} packages in {target}")


if __name__ == "__main__":
    main()
