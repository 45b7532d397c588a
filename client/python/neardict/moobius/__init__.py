"""What a service written for the Moobius SDK imports in place of `from moobius import MoobiusStorage`.

A storage with one container:

    from neardict.moobius import MoobiusStorage

    db_config = [{"implementation": "json", "name": "health_bars", "settings": {"root_dir": "json_db"}}]
    storage = MoobiusStorage("service-1", "channel-7", db_config)
    storage.health_bars["alice"] = 100
"""

from .cached_dict import CachedDict
from .interface import DatabaseInterface
from .remote import RemoteDatabase
from .storage import MoobiusStorage

__all__ = ["CachedDict", "DatabaseInterface", "MoobiusStorage", "RemoteDatabase"]
