"""Many operations at once: a window of them is under way."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from .errors import BulkError, ClosedError, DeadlineExceededError, NeardictError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# How many operations of a bulk are under way at once: as many as the service takes of one domain. Or calls,
# of large values, or if it has no stream: so many of 1 MiB are half of what a connection may have in flight.
WINDOW = 1024
CALLS = 32

# After these the operations that have not begun would wait as long for nothing: they fail with the same.
HOPELESS = (ClosedError, DeadlineExceededError, UnavailableError)


def final(error: NeardictError) -> NoReturn:
    """Raises it: there is to be no other attempt."""
    raise error from None


class Begun(NamedTuple):
    """An attempt at an operation, under way: `finish`, once, returns the response or raises a NeardictError.

    `again`, after such an error, returns what begins another one, when it is its turn, or raises what the
    operation ends with. It is not `sure` as long as nobody knows whether the service has the stream on which
    it was sent: each of a window might have to be called anew, one after the other. `most` of its kind may be
    under way.
    """

    cancel: Callable[[], object]
    finish: Callable[[], Any]
    again: Callable[[NeardictError], Callable[[], Begun]] = final
    sure: bool = True
    most: int = WINDOW

    def settle(self) -> Any:
        """Returns the response, after as many attempts as that takes. Raises what the last one ends with."""
        begun = self
        while True:
            try:
                return begun.finish()
            except NeardictError as error:
                begin = begun.again(error)
            begun = begin()


def bulk(
    requests: Mapping[str, Any],
    begin: Callable[[Any], Begun],
    *,
    answered: Callable[[str, Any], None] = lambda key, answer: None,
    failed: Callable[[str, BaseException], None] = lambda key, error: None,
) -> dict[str, Any]:
    """Carries out the operations and returns the answers by key; raises BulkError if some failed.

    `begin` sends a request. `answered` is told of each answer, `failed` of each operation that began and did
    not succeed; what is under way when an interrupt ends it all is cancelled.
    """
    answers: dict[str, Any] = {}
    failures: dict[str, NeardictError] = {}
    # In the order in which they began. Noted before that, and let go after the answer has been told, so that
    # an interrupt finds here whatever may have been applied without anybody knowing.
    under_way: OrderedDict[str, Any] = OrderedDict()
    hopeless: NeardictError | None = None

    def take() -> NeardictError | None:
        key, begun = next(iter(under_way.items()))
        begin = error = None
        try:
            try:
                answers[key] = begun.finish()
            except NeardictError as caught:
                begin = begun.again(caught)
            if begin is not None:
                under_way[key] = begin()
                # Behind the others, so that those which have failed together are repeated together.
                under_way.move_to_end(key)
                return None
        except NeardictError as caught:
            failures[key] = error = caught
            failed(key, error)
        else:
            answered(key, answers[key])
        del under_way[key]
        return error if isinstance(error, HOPELESS) else None

    try:
        sure, most = True, WINDOW
        for key, request in requests.items():
            while under_way and (len(under_way) >= most or not sure):
                hopeless = take() or hopeless
                sure = sure or not under_way
            if hopeless is None:
                under_way[key] = None
                try:
                    under_way[key] = begun = begin(request)
                    sure, most = begun.sure, begun.most
                except ClosedError as error:
                    del under_way[key]
                    hopeless = error
            if hopeless is not None:
                failures[key] = hopeless
        while under_way:
            take()
    except BaseException as error:
        for key, begun in under_way.items():
            if begun is not None:
                begun.cancel()
            failed(key, error)
        raise
    if failures:
        raise BulkError(failures, len(requests))
    return answers
