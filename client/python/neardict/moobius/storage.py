"""The SDK's MoobiusStorage: containers as attributes."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from ..errors import InvalidArgumentError, NeardictError
from . import config
from .cached_dict import CachedDict
from .null import NullDatabase
from .remote import RemoteDatabase

logger = logging.getLogger(__name__)


class MoobiusStorage:
    """The containers of one channel of one service, each a CachedDict in an attribute of its name.

    `db_config` is a list of entries `{"implementation", "name", "load": True, "clear": False, "settings"}`,
    one such dict, or the path of a .json file with either; empty means no containers. Which engine keeps a
    container is the affair of the service at `settings["target"]`, by default NEARDICT_TARGET, else
    localhost:50051; but `null` keeps the values in this object alone, and needs no service.

    All storages of a process share the connection, and with it each other's writes. A storage belongs to its
    process: after a fork its dicts raise ClosedError, and it cannot be pickled.
    """

    def __init__(self, service_id: object, channel_id: object, db_config: config.DbConfig = ()) -> None:
        """Raises InvalidArgumentError for a mistake in db_config, before any container is made.

        Also raises what add_container does; the message names the container.
        """
        self.service_id = service_id
        self.channel_id = channel_id
        for entry in config.entries(db_config, taken=lambda name: hasattr(self, name)):
            self.add_container(**entry)

    def put(self, attr_name: str, database: Any, load: bool = True, clear: bool = False) -> None:
        """Makes `self.<attr_name>` a CachedDict over the database, an object as DatabaseInterface is.

        `clear` deletes everything that is stored; `load` reads all of it now rather than one by one. Raises
        InvalidArgumentError for a name that is taken, and whatever the database raises.
        """
        if not isinstance(attr_name, str) or not attr_name or hasattr(self, attr_name):
            raise InvalidArgumentError(f"the name {attr_name!r} is taken, or no text: choose another name")
        container = CachedDict(database)
        with _naming(attr_name):
            if clear:
                container.clear()
            if load:
                container.load()
        setattr(self, attr_name, container)

    def add_container(
        self,
        implementation: str | bool | None,
        settings: Mapping[str, Any] | None,
        name: str,
        load: bool = True,
        clear: bool = False,
    ) -> None:
        """Makes `self.<name>` a CachedDict, as an entry of db_config with these fields does."""
        path = f"container {name!r}"
        container = config.container(implementation, settings, name, load, clear, path=path)
        config.warn_of_unknown(settings, container.implementation, path)
        if container.implementation == "null":
            logger.warning("%s: its implementation is null, so that nothing is stored", path)
            self.put(name, NullDatabase(), load=load, clear=clear)
        else:
            domain = f"service_{self.service_id}.channel_{self.channel_id}.{name}"
            with _naming(name):
                database = RemoteDatabase(domain, container.target)
            self.put(name, database, load=load, clear=clear)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> CachedDict:
            """The attributes that db_config names, for type checkers; at run time they are there."""

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a MoobiusStorage belongs to its process and cannot be pickled or copied: make one where it is "
            "used, with MoobiusStorage(service_id, channel_id, db_config)"
        )

    def __repr__(self) -> str:
        names = [name for name, value in vars(self).items() if isinstance(value, CachedDict)]
        return (
            f"MoobiusStorage(service_id={self.service_id!r}, channel_id={self.channel_id!r}, "
            f"containers={names})"
        )


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    """Has whatever is raised name the container."""
    try:
        yield
    except NeardictError as error:
        error.args = (f"container {name!r}: {error}", *error.args[1:])
        raise
    except Exception as error:
        error.add_note(f"(container {name!r})")
        raise
