"""Which backend serves a domain."""

import time

import pytest

from neardict_server.backends.memory import MemoryBackend
from neardict_server.errors import NoRouteError
from neardict_server.router import Router

BACKENDS = {name: MemoryBackend() for name in ("a", "b", "c")}


def chosen(router: Router[MemoryBackend], domain: str) -> str:
    found = router.backend(domain)
    return next(name for name, backend in BACKENDS.items() if backend is found)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("x", ["x"], ["X", "x.", "xx", ".x", " x", "x\n"]),
        ("x.*", ["x.", "x.y", "x.y.z", "x.\n", "x.\U0001f600"], ["x", "y.x.", "X.y"]),
        ("*.x", ["a.x", "a.b.x", ".x"], ["x", "a.x.b", "a.xx"]),
        ("x?", ["x1", "x\n", "x\U0001f600"], ["x", "x12"]),
        ("x[ab]", ["xa", "xb"], ["xc", "x[ab]", "xA"]),
        ("x[!ab]", ["xc", "x!"], ["xa", "x"]),
        ("x[", ["x["], ["x"]),
        ("x.y", ["x.y"], ["xzy"]),
        ("(x|y)+$^\\", ["(x|y)+$^\\"], ["x", "y"]),
        ("é*", ["é", "éa"], ["e\u0301"]),
    ],
)
def test_a_pattern_matches_whole_domains(pattern: str, matching: list[str], other: list[str]) -> None:
    router = Router(BACKENDS, [(pattern, "a")], "b")
    assert {chosen(router, domain) for domain in matching} == {"a"}
    assert {chosen(router, domain) for domain in other} == {"b"}


def test_the_first_pattern_that_matches_wins() -> None:
    router = Router(BACKENDS, [("x.y.*", "a"), ("x.*", "b"), ("*", "c")])
    assert [chosen(router, domain) for domain in ("x.y.z", "x.z", "z", "x.y.z")] == ["a", "b", "c", "a"]


def test_without_a_route_and_a_default_there_is_an_error_each_time() -> None:
    router = Router(BACKENDS, [("x", "a")])
    for _ in range(2):
        with pytest.raises(NoRouteError, match="no backend is configured for the domain 'y'") as caught:
            router.backend("y")
        assert caught.value.metadata == {"domain": "y"}


def test_what_it_remembers_of_domains_is_bounded() -> None:
    router = Router(BACKENDS, [], "a")
    for number in range(70_000):
        router.backend(str(number))
    assert router.backend.cache_info().currsize <= 65_536


def test_no_pattern_takes_long() -> None:
    router = Router(BACKENDS, [("*a" * 100 + "b", "a")], "b")
    began = time.perf_counter()
    assert chosen(router, "a" * 255) == "b"
    assert time.perf_counter() - began < 1
