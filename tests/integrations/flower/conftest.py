import sys
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="needs fedmend[flower]")
sys.path.insert(0, str(Path(__file__).parent))  # for the stand-ins beside this file
