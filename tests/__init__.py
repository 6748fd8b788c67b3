"""Tests: a folder for each of stages/lib, one for tools, and at the top what concerns the whole project."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
