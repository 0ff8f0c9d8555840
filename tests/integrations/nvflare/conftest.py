import pytest

pytest.importorskip("nvflare", reason="needs fedmend[nvflare]")
