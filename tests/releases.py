"""Prints the newest patch of every minor of transformers from 4.57.1 on, as the package index has them.

python tests/releases.py
"""

import re
import subprocess
import sys

from packaging.version import Version

FIRST = Version("4.57.1")


def newest_patches(versions: list[str]) -> list[str]:
    """Of all versions, the newest final release of each minor, oldest minor first."""
    newest = {}
    for version in sorted(map(Version, versions)):
        if version >= FIRST and not version.is_prerelease:
            newest[version.release[:2]] = str(version)
    return list(newest.values())


def on_the_index() -> list[str]:
    """Every version of transformers that pip is offered."""
    command = [sys.executable, "-m", "pip", "index", "versions", "transformers", "--disable-pip-version-check"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.search(r"Available versions: (.*)", answer)[1].split(", ")


if __name__ == "__main__":
    print(*newest_patches(on_the_index()))
