import numpy as np

from stages.lib.train.batches import chunk, epoch_batches


def test_an_epoch_holds_every_sample_once_in_another_order_each_time():
    first, second = (np.concatenate(epoch_batches(50, 8, 0, epoch)) for epoch in (1, 2))
    assert sorted(first) == sorted(second) == list(range(50))
    assert list(first) != list(second)
    assert list(first) == list(np.concatenate(epoch_batches(50, 8, 0, 1)))


def test_a_last_batch_of_one_joins_the_one_before():
    assert [len(rows) for rows in epoch_batches(17, 8, 0, 1)] == [8, 9]
    assert [len(rows) for rows in epoch_batches(18, 8, 0, 1)] == [8, 8, 2]
    assert [len(rows) for rows in epoch_batches(3, 1, 0, 1)] == [1, 1, 1]


def test_a_last_batch_of_fewer_samples_than_parts_joins_the_one_before():
    assert [len(rows) for rows in epoch_batches(18, 8, 0, 1, parts=3)] == [8, 10]
    assert [len(rows) for rows in epoch_batches(19, 8, 0, 1, parts=3)] == [8, 8, 3]


def test_chunks_cover_a_batch_once():
    rows = np.arange(7)
    assert [list(chunk(rows, part, 3)) for part in range(3)] == [[0, 1], [2, 3], [4, 5, 6]]
