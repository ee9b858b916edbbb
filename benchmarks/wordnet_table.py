"""Make the table of `cci_captum.diagnosis.wordnet` from WordNet 3.0's nouns.

Needed only to remake the table: it is shipped. It reads `data.noun` of WordNet 3.0, which Debian's
package wordnet-base installs, and keeps ImageNet's 1000 classes, those of the embedded models, and
all that they are kinds of, or instances of, up to "entity".

    python -m cci_captum.benchmarks.wordnet_table /usr/share/wordnet/data.noun --out wordnet.tsv.gz

NOTICE holds WordNet's licence, and so does the table.
"""

from __future__ import annotations

import argparse
import gzip
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from timm.data import ImageNetInfo

from cci_captum.tiny import WORDNET_IDS

_HYPERNYMS = ("@", "@i")  # a kind of, an instance of
_LICENCE_WIDTH = 5  # of the numbers before the lines of the licence


class Noun(NamedTuple):
    """A synset: the ids of what it is a kind or an instance of, and its words."""

    parents: tuple[str, ...]
    lemmas: tuple[str, ...]


def read_nouns(lines: Iterable[str]) -> tuple[list[str], dict[str, Noun]]:
    """WordNet's licence, as its files begin with it, and every noun by its id.

    Args:
        lines: Of `data.noun`; wndb(5WN) describes them.

    Example:
        >>> lines = [
        ...     "  1 The licence.  ",
        ...     "02121620 05 n 02 cat 0 true_cat 0 001 @ 02120997 n 0000 | feline",
        ... ]
        >>> read_nouns(lines)
        (['The licence.'], {'n02121620': Noun(parents=('n02120997',), lemmas=('cat', 'true cat'))})
    """
    licence, nouns = [], {}
    for line in lines:
        if line.startswith("  "):
            licence.append(line[_LICENCE_WIDTH - 1 :].strip())
            continue
        fields = line.partition(" | ")[0].split()
        count = int(fields[3], 16)
        words, pointers = fields[4 : 4 + 2 * count : 2], fields[5 + 2 * count :]
        each = zip(pointers[::4], pointers[1::4], strict=False)
        parents = tuple(f"n{offset}" for symbol, offset in each if symbol in _HYPERNYMS)
        lemmas = tuple(word.replace("_", " ") for word in words)
        nouns[f"n{fields[0]}"] = Noun(parents, lemmas)
    return licence, nouns


def with_ancestors(chosen: Sequence[str], nouns: Mapping[str, Noun]) -> list[str]:
    """The chosen ids in their order, then all that they are kinds or instances of, by id."""
    found, left = set(chosen), [*chosen]
    while left:
        new = set(nouns[left.pop()].parents) - found
        found |= new
        left += new
    return [*chosen, *sorted(found.difference(chosen))]


def write_table(path: Path, licence: Sequence[str], rows: Mapping[str, Noun]) -> None:
    """Write the licence, and a line a noun: id, ids of parents, words, with tabs between them.

    Ids and words have commas between them. The same rows are the same bytes.
    """
    lines = [f"# {line}".rstrip() for line in licence]
    for node, noun in rows.items():
        lines.append("\t".join((node, ",".join(noun.parents), ",".join(noun.lemmas))))
    text = "".join(f"{line}\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def main(argv: Sequence[str] | None = None) -> None:
    """Make the table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("nouns", type=Path, help="data.noun of WordNet 3.0")
    parser.add_argument("--out", type=Path, default=Path("wordnet.tsv.gz"))
    arguments = parser.parse_args(argv)
    with open(arguments.nouns, encoding="latin-1") as file:
        licence, nouns = read_nouns(file)
    classes = ImageNetInfo("imagenet-1k").label_names()
    ids = with_ancestors([*classes, *sorted(set(WORDNET_IDS.values()) - set(classes))], nouns)
    write_table(arguments.out, licence, {node: nouns[node] for node in ids})
    print(f"{arguments.out}: {len(ids)} nouns, {os.path.getsize(arguments.out):,} bytes")


if __name__ == "__main__":
    main()
