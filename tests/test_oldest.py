"""What ``make test-oldest`` installs is what ``pyproject.toml`` allows at the least."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
ANY = {"mypy", "pandas-stubs", "pre-commit", "ruff"}  # no test runs them


def test_the_oldest_dependencies_are_the_lower_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    bounds = {(need.name, str(need.specifier)) for need in map(Requirement, lines) if need.name not in ANY}
    pins = dict(re.findall(r"^([a-z-]+)==(.+)$", (ROOT / "tests" / "oldest.txt").read_text(), flags=re.MULTILINE))
    assert {name for name, _ in bounds} <= pins.keys()
    for name, bound in bounds:
        assert Version(bound.removeprefix(">=")) == Version(pins[name]), name
