"""Notices what other programs do to files, by inotify: the folders of some domains, and those above them.

Not recursive, so neither a root with many files nor other domains' folders cost anything. Of the libraries,
watchfiles does not tell that the kernel's queue overflowed (samuelcolvin/watchfiles#348), nor of files in a
folder that is new; watchdog logs an overflow but tells no handler, waits half a second with what was moved
away, and needs a thread for each folder. inotify_simple hands over what the kernel says.
"""

import contextlib
import enum
import errno
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from inotify_simple import Event, INotify, flags

from . import files
from .names import SUFFIX, folder_names

logger = logging.getLogger(__name__)

_CAME = flags.CREATE | flags.MOVED_TO
_WENT = flags.DELETE | flags.MOVED_FROM
_MOVED = flags.MOVED_TO | flags.MOVED_FROM
# Those of the watched folder itself, rather than of something in it.
_SELF = flags.DELETE_SELF | flags.MOVE_SELF | flags.IGNORED | flags.UNMOUNT
_ADVICE: dict[int | None, str] = {
    errno.EMFILE: (
        "Raise the sysctl fs.inotify.max_user_instances, which all programs of this user share, or the "
        "server's limit of open files."
    ),
    errno.ENOSPC: "Raise the sysctl fs.inotify.max_user_watches, which all programs of this user share.",
}
_ASKED = _CAME | _WENT | flags.DELETE_SELF | flags.MOVE_SELF | flags.MODIFY | flags.CLOSE_WRITE | flags.ATTRIB


class _State(enum.Enum):
    ABSENT = enum.auto()
    WATCHED = enum.auto()
    # It is there, or may be, but cannot be watched now, or one above it cannot.
    FAILED = enum.auto()


@dataclass(eq=False)
class _Folder:
    """A folder that is watched, or will be when it is there; `domain` if it is a followed domain's."""

    above: "_Folder | None"
    names: tuple[str, ...]
    children: dict[str, "_Folder"] = field(default_factory=dict)
    domain: str | None = None
    state: _State = _State.ABSENT
    descriptor: int = -1

    def below(self) -> Iterator["_Folder"]:
        """Yields itself and all below, from the top down."""
        yield self
        for child in self.children.values():
            yield from child.below()


@dataclass
class Noticed:
    """What has happened since the last look."""

    # Files that somebody else touched, by domain and name, with whether they were gone for a moment.
    files: dict[tuple[str, str], bool] = field(default_factory=dict)
    # Domains whose folder has come to be.
    appeared: set[str] = field(default_factory=set)
    # Domains in which more may have happened than is told here.
    lost: set[str] = field(default_factory=set)
    # Domains of which nothing will be noticed until they are among the lost.
    failed: frozenset[str] = frozenset()


class Watch:
    """Not synchronised: used by one thread at a time, until `close`.

    Invariant: of a domain that has not failed, everything that happens to its files after `follow` is
    noticed.
    """

    def __init__(self, tree: files.Tree) -> None:
        self._tree = tree
        self._inotify: INotify | None = None
        self._root = _Folder(None, ())
        # Those that are watched, by descriptor.
        self._folders: dict[int, _Folder] = {}
        # The cookies of renames by this process; the other half of one may come with the next look.
        self._own: set[int] = set()
        # Domains of which nothing will be noticed, until they are among the lost.
        self._failed: frozenset[str] = frozenset()
        # Whether the log says so, which it does once for all of them.
        self._complained = False

    def fileno(self) -> int | None:
        """Returns the descriptor that is readable when there is something to look for, if there is one."""
        return None if self._inotify is None else self._inotify.fileno()

    def follow(self, domain: str) -> bool:
        """Begins to watch a domain, whose folder need not exist. Returns whether that did not fail."""
        folder = self._root
        if folder.state is _State.ABSENT:
            self._attach(folder)
        for name in folder_names(domain):
            child = folder.children.get(name)
            # One that others wait for as well is left to `look`, which tells them.
            if child is None:
                child = folder.children[name] = _Folder(folder, (*folder.names, name))
                self._attach(child)
            folder = child
        folder.domain = domain
        if folder.state is not _State.FAILED:
            return True
        self._failed |= {domain}
        return False

    def is_absent(self, domain: str) -> bool:
        """Returns whether a followed domain's folder was not there at the last look."""
        folder = self._root
        for name in folder_names(domain):
            folder = folder.children[name]
        return folder.state is _State.ABSENT

    def unfollow(self, domain: str) -> None:
        """Ends watching a domain."""
        folder = self._root
        for name in folder_names(domain):
            folder = folder.children[name]
        folder.domain = None
        while folder.above is not None and folder.domain is None and not folder.children:
            self._detach(folder)
            del folder.above.children[folder.names[-1]]
            folder = folder.above
        self._failed -= {domain}

    def look(self) -> Noticed:
        """Returns what has happened since the last look, without waiting. Raises OSError."""
        noticed = Noticed()
        events = self._events()
        own = {event.cookie for event in events if event.mask & _MOVED and files.is_own_temporary(event.name)}
        went: dict[_Folder, None] = {}
        came: dict[_Folder, None] = {}
        for event in events:
            folder = self._folders.get(event.wd)
            if event.mask & flags.Q_OVERFLOW:
                logger.warning("so much happened to the files of root_dir at once that not all was told")
                went[self._root] = None
            elif folder is None:
                continue
            elif event.mask & _SELF:
                # When a folder is moved or removed the one above tells, which the root has not.
                if folder is self._root or event.mask & (flags.IGNORED | flags.UNMOUNT):
                    went[folder] = None
            elif (child := folder.children.get(event.name)) is not None:
                if event.mask & (_WENT | _CAME):
                    (went if event.mask & _WENT else came)[child] = None
            elif (
                folder.domain is not None
                and event.name.endswith(SUFFIX)
                and not event.mask & flags.ISDIR
                and not (event.mask & _MOVED and (event.cookie in own or event.cookie in self._own))
            ):
                place = folder.domain, event.name
                noticed.files[place] = noticed.files.get(place, False) or bool(event.mask & _WENT)
        self._own = own
        for folder in went:
            self._attach_anew(folder, noticed)
        for folder in came:
            self._attach_more(folder.below(), noticed)
        return self._complete(noticed, changed=bool(went or came))

    def retry(self) -> Noticed:
        """Tries again what could not be watched, and checks that root_dir is in its place."""
        noticed = Noticed()
        try:
            with self._tree.open_root():
                pass
        except OSError:
            if self._root.state is _State.WATCHED:
                self._attach_anew(self._root, noticed)
                self._note_failed()
        if self._failed:
            self._attach_more([f for f in self._root.below() if f.state is _State.FAILED], noticed)
        return self._complete(noticed, changed=bool(self._failed))

    def close(self) -> None:
        """Ends watching."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def _events(self) -> list[Event]:
        if self._inotify is None:
            return []
        events: list[Event] = self._inotify.read(timeout=0)
        if events and events[-1].mask & flags.MOVED_FROM:
            # The other half of the rename follows at once, if it has one; it tells who did it.
            time.sleep(0.001)
            events += self._inotify.read(timeout=0)
        return events

    def _complete(self, noticed: Noticed, *, changed: bool) -> Noticed:
        if changed:
            self._note_failed()
        noticed.appeared -= noticed.lost
        noticed.failed = self._failed
        return noticed

    def _note_failed(self) -> None:
        self._failed = frozenset(
            folder.domain
            for folder in self._root.below()
            if folder.domain is not None and folder.state is _State.FAILED
        )
        if self._complained and not self._failed:
            self._complained = False
            logger.info("all of root_dir that clients watch can be watched for edits again")

    def _attach_more(self, folders: Iterable[_Folder], noticed: Noticed) -> None:
        """Watches folders, given from the top down, that have come to be, or can be watched again."""
        for folder in folders:
            before = folder.state
            self._attach(folder)
            if folder.domain is not None and folder.state is not before:
                if before is _State.FAILED:
                    noticed.lost.add(folder.domain)
                elif folder.state is _State.WATCHED:
                    noticed.appeared.add(folder.domain)

    def _attach_anew(self, top: _Folder, noticed: Noticed) -> None:
        """Watches what is there now in the place of a folder that went, and of those below."""
        for folder in top.below():
            if folder.domain is not None and folder.state is not _State.ABSENT:
                noticed.lost.add(folder.domain)
            self._detach(folder)
        self._attach_more(top.below(), noticed)

    def _attach(self, folder: _Folder) -> None:
        """Watches a folder if it is there and not watched yet; the one above has been tried before."""
        if folder.state is _State.WATCHED:
            return
        if folder.above is not None and folder.above.state is not _State.WATCHED:
            folder.state = folder.above.state
            return
        try:
            with self._tree.open(folder.names) as opened:
                if opened is None:
                    folder.state = _State.ABSENT
                    return
                if self._inotify is None:
                    self._inotify = INotify(nonblocking=True)
                # By the descriptor, so that it is the very folder that was found without following links.
                descriptor = self._inotify.add_watch(f"/proc/self/fd/{opened}", _ASKED | flags.ONLYDIR)
        except (OSError, AttributeError) as error:  # the latter where the system has no inotify
            folder.state = _State.FAILED
            if not self._complained:
                self._complained = True
                logger.warning(
                    "%s and perhaps more cannot be watched for edits (%s): clients ask for each read of "
                    "what is below, until it can. %s",
                    "/".join(["root_dir", *folder.names]),
                    error,
                    _ADVICE.get(getattr(error, "errno", None), "Check that it is there."),
                )
            return
        same = self._folders.get(descriptor)
        if same is not None:
            # It was moved from there to here; what is to come about that must find it gone.
            same.state, same.descriptor = _State.FAILED, -1
        folder.state, folder.descriptor = _State.WATCHED, descriptor
        self._folders[descriptor] = folder

    def _detach(self, folder: _Folder) -> None:
        if folder.state is _State.WATCHED and self._inotify is not None:
            del self._folders[folder.descriptor]
            # The kernel may have ended it together with the folder.
            with contextlib.suppress(OSError):
                self._inotify.rm_watch(folder.descriptor)
        folder.state, folder.descriptor = _State.ABSENT, -1
