"""The project's root, copies of it, and programs run in them."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_python(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with that folder's packages before the installed ones."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def alembic(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run what is typed as `alembic` in a folder."""
    return run_python("-m", "alembic", *arguments, folder=folder, **environment)


def copy_of_project(target: Path) -> Path:
    """Copy what is needed to run the library and its revisions from a checkout."""
    target.mkdir(parents=True)
    for name in ("secretstore", "alembic"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "alembic.ini", target)
    return target


def build_wheel(target: Path, *, source: Path = ROOT) -> Path:
    """Build the wheel of a project into a folder and return it."""
    built = run_python("-m", "hatchling", "build", "-t", "wheel", "-d", str(target), folder=source)
    assert built.returncode == 0, built.stderr
    (wheel,) = target.glob("*.whl")
    return wheel


def unpack(wheel: Path, target: Path) -> Path:
    """Unpack a wheel as an installer does."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target
