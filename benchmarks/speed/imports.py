"""What importing cci_captum costs, in units of `import torch, captum`.

CPU seconds of fresh processes, start of Python included, each statement in turn; the first turn
is not counted, for it may write bytecode. Prints the median of each and the median of its ratios
to the first statement, turn by turn: on a busy machine a turn is slow or fast as a whole.

    python -m cci_captum.benchmarks.speed.imports --repeats 5
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

STATEMENTS = (
    "import torch, captum",
    "import cci_captum",
    "from cci_captum import CCI",
    "from cci_captum import CCI, ImageTextSimilarity, ZeroShotClassifier",
    "from cci_captum import CCI, load_clip",
    "import torch, captum, open_clip",
)


def cpu_seconds(statement: str) -> float:
    """CPU seconds of a new process that does nothing else, in all its threads."""
    code = f"{statement}\nimport time\nprint(time.process_time())"
    command = [sys.executable, "-c", code]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main(argv: list[str] | None = None) -> None:
    """Print the table; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args(argv)
    turns = []
    for turn in range(args.repeats + 1):
        seconds = [cpu_seconds(statement) for statement in STATEMENTS]
        if turn:
            turns.append(seconds)
    print(f"Python {sys.version.split()[0]}, {args.repeats} repeats\n")
    print("| | ratio | CPU seconds |\n|---|---|---|")
    for place, statement in enumerate(STATEMENTS):
        ratio = statistics.median(turn[place] / turn[0] for turn in turns)
        print(f"| `{statement}` | {ratio:.2f} | {statistics.median(t[place] for t in turns):.2f} |")


if __name__ == "__main__":
    main()
