"""No stage: lets `python stages/split.py digits` find the package, which Python looks for in the script's folder."""

from pathlib import Path

__path__ = [str(Path(__file__).parent)]
