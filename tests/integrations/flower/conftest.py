import sys
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="needs fedmend[flower]")
sys.path.insert(0, str(Path(__file__).parent))  # for the stand-ins beside this file

try:
    from flwr.supercore.task_identity import TaskIdentity
except ImportError:  # earlier versions of Flower don't ask who sends a message
    pass
else:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1
