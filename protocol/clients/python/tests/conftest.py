"""Puts the sources in the path, so that the tests need no installation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
