"""The files of a run are read as they were at one moment, also while processes still write to them."""

from collections.abc import Iterator
from pathlib import Path

from coherence.history import Op, Recorder, load


def test_a_read_of_a_write_that_is_recorded_meanwhile_does_not_stand_alone(tmp_path: Path) -> None:
    writer, reader = tmp_path / "writer", tmp_path / "reader"
    writing, reading = Recorder(writer), Recorder(reader)
    reading.op(Op("read", "b", "k", None, 1, 2))

    def paths() -> Iterator[Path]:
        yield writer
        # While the files are read, somebody writes, and somebody else reads that.
        number = writing.invoke("set", "a", "k", "one")
        reading.op(Op("read", "b", "k", "one", 3, 4))
        reading.op(Op("ask", "b", "k", "one", 3, 4))
        writing.answer(number, "ok", 10)
        yield reader

    assert [op.value for op in load(paths(), until=2.5).ops] == [None]


def test_a_line_that_was_cut_is_left_out_and_the_write_has_no_answer(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "writer")
    recorder.answer(recorder.invoke("set", "a", "k", "one"), "ok", 10)
    whole = (tmp_path / "writer").read_bytes()
    (tmp_path / "writer").write_bytes(whole[:-1])
    (write,) = load([tmp_path / "writer"]).ops
    assert (write.value, write.outcome, write.revision) == ("one", "unknown", 0)


def test_a_deletion_that_found_nothing_is_a_look(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "writer")
    recorder.answer(recorder.invoke("delete", "a", "k", None), "ok", 10, existed=False)
    (look,) = load([tmp_path / "writer"]).ops
    assert (look.kind, look.value, look.outcome, look.revision) == ("ask", None, "ok", 0)
