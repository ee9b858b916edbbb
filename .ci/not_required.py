"""Installed packages that neither cci-captum, without its extras, nor pip needs: a name a line."""

import re
import sys
from importlib.metadata import distributions

from pip._vendor.packaging.requirements import Requirement


def plain(name: str) -> str:
    """A name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


found = {plain(each.metadata["Name"]): each for each in distributions()}
needed: set[tuple[str, str]] = set()  # a package, and one of its extras or ""
left = [("cci-captum", ""), ("pip", "")]
while left:
    name, extra = left.pop()
    if (name, extra) in needed or name not in found:
        continue
    needed.add((name, extra))
    for text in found[name].requires or ():
        asked = Requirement(text)
        if asked.marker is None or asked.marker.evaluate({"extra": extra}):
            left += [(plain(asked.name), one) for one in ("", *asked.extras)]
names = sorted(found.keys() - {name for name, _ in needed})
if not names:
    sys.exit("expected packages that are not required, found none")
print(*names, sep="\n")
