"""The commands of the command line, one a file: `add_to(subparsers)` and `run(arguments)`.

Whatever is slow to import is imported inside `run`, so that `--help` answers at once.
"""
