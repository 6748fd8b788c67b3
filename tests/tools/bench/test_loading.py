"""The train stage's batches against the samples that every other library is given."""

import torch

from tools.bench import loading, loading_peers


def test_an_epoch_of_the_train_stage_holds_the_samples_that_the_others_get(tmp_path):
    ours = loading.prepare(loading.make(8, 100), tmp_path)
    pictures = loading.as_peers_have_it(ours.task, ours.run, tmp_path)
    theirs = loading_peers.means([pictures.augmented(pictures.x)])
    assert loading.agree(ours.epoch(), theirs)
    assert not loading.agree(ours.epoch(), theirs + torch.arange(len(theirs)))
