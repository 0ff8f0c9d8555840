import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nvflare", reason="needs fedmend[nvflare]")
sys.path.insert(0, str(Path(__file__).parent))  # for the helpers beside this file

from nvflare.app_common.abstract.fl_model import ParamsType


@pytest.fixture(params=[ParamsType.FULL, ParamsType.DIFF], ids=["full", "differences"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param
