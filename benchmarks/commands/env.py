"""`cci-captum env`: what a bug report needs to say."""

from __future__ import annotations

import argparse
import platform

from ..versions import PACKAGES, version_of


def add_to(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    text = "Print versions, devices and clustering backends, for bug reports."
    parser = subparsers.add_parser("env", help="versions and devices", description=text)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Print a table of names and values."""
    rows = {"python": platform.python_version(), "platform": platform.platform()}
    rows.update({package: version_of(package) for package in PACKAGES})
    rows.update(_devices())
    rows["clustering"] = _clustering()
    for name, value in rows.items():
        print(f"{name:16} {value}")


def _devices() -> dict[str, str]:
    import torch

    devices = {"cpu threads": str(torch.get_num_threads())}
    for index in range(torch.cuda.device_count()):
        devices[f"cuda:{index}"] = torch.cuda.get_device_name(index)
    devices["cuda"] = f"{torch.version.cuda or 'not built in'}, {torch.cuda.device_count()} devices"
    devices["mps"] = "available" if torch.backends.mps.is_available() else "not available"
    return devices


def _clustering() -> str:
    try:
        import faiss
    except ImportError:
        return "torch; faiss is not installed; auto is torch"
    gpus = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    return f"torch; faiss {faiss.__version__} ({gpus} GPUs); auto is torch"
