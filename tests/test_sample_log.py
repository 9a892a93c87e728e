"""Losses on their way to a file: whatever a killed process leaves, whole records are read and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landscape.sample_log import LogReader, SampleLog, log_path

SESSION = bytes(range(32))


def records(n: int) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(0)
    sizes = draw.integers(1, 50, n)
    return [
        (i % 2, i % 3 - 1, draw.permutation(1000)[:k], draw.normal(size=(2, k)).astype(np.float32))
        for i, k in enumerate(sizes)
    ]


def write(path, n: int = 9, session: bytes = SESSION) -> list:
    log = SampleLog(path, session, 2)
    for record in records(n):
        log.add(*record)
    log.close()
    return records(n)


def known(source, record) -> bool:
    found = source.find(*record[:3])
    return found is not None and np.array_equal(found, record[3])


def test_what_was_added_is_found_by_what_was_asked_for(tmp_path):
    written = write(tmp_path / "log")
    log = SampleLog(tmp_path / "log", SESSION, 2)
    assert all(known(log, record) for record in written)
    line, cell, positions, _ = written[0]
    assert log.find(line, cell, positions[::-1]) is None or len(positions) == 1
    assert log.find(line, 99, positions) is None
    log.close()


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_log_cut_anywhere_keeps_its_whole_records_and_goes_on(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("log") / "log"
    written = write(path)
    whole = path.read_bytes()
    ends = np.cumsum([32] + [16 + 4 * len(p) * 3 for _, _, p, _ in written])
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut] + data.draw(st.binary(max_size=20)))
    log = SampleLog(path, SESSION, 2)
    expected = [end <= cut for end in ends[1:]]
    assert [known(log, record) for record in written] == expected
    for record, there in zip(written, expected, strict=True):
        if not there:
            log.add(*record)
    log.close()
    assert path.read_bytes() == whole


def test_another_session_begins_anew(tmp_path):
    write(tmp_path / "log")
    log = SampleLog(tmp_path / "log", bytes(32), 2)
    assert not any(known(log, record) for record in records(9))
    log.close()
    assert (tmp_path / "log").read_bytes() == bytes(32)


def test_another_process_is_followed(tmp_path):
    path, (first, *others) = tmp_path / "log", records(4)
    reader = LogReader(path, SESSION, 2)
    reader.read()
    log = SampleLog(path, SESSION, 2)
    log.add(*first)
    reader.read()
    assert known(reader, first)
    for record in others:
        log.add(*record)
        assert not known(reader, record)
    reader.read()
    assert all(known(reader, record) for record in others)
    log.close()


def test_nothing_is_written_without_a_file(tmp_path):
    log = SampleLog(None, SESSION, 2)
    log.add(*records(1)[0])
    assert log.find(*records(1)[0][:3]) is None
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(OSError, match="log"):
        SampleLog(tmp_path / "none" / "log", SESSION, 2)
    assert log_path(tmp_path / "s.h5").name == "s.h5.samples"
