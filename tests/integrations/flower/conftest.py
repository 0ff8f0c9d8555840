import os
import sys
from pathlib import Path

import pytest

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}  # before Flower is imported
pytest.importorskip("flwr", reason="needs fedmend[flower]")
sys.path.insert(0, str(Path(__file__).parent))  # for the stand-ins beside this file
