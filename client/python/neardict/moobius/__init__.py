"""What a service written for the Moobius SDK imports in place of `from moobius import MoobiusStorage`.

from neardict.moobius import MoobiusStorage

storage = MoobiusStorage(service_id, channel_id, "config/db.json")
storage.health_bars["alice"] = 100
"""

from .cached_dict import CachedDict
from .interface import DatabaseInterface
from .remote import RemoteDatabase
from .storage import MoobiusStorage

__all__ = ["CachedDict", "DatabaseInterface", "MoobiusStorage", "RemoteDatabase"]
