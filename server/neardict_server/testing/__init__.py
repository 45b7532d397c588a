"""For authors of backends: the behaviour that every backend must show, as a pytest class.

    from neardict_server.testing import BackendContract

    class TestMine(BackendContract):
        @pytest.fixture
        async def backend(self, tmp_path):
            backend = await MyBackend.open(MyBackend.Settings(), Surroundings(tmp_path))
            yield backend
            await backend.close()

Needs pytest and pytest-asyncio with `asyncio_mode = "auto"`.
"""

from .contract import BackendContract
from .remote import RemoteBackend

__all__ = ["BackendContract", "RemoteBackend"]
