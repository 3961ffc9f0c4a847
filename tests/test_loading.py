"""The order of batches: a function of seed and epoch, shared by processes, taken up again anywhere."""

import json

import numpy as np
import pytest
import torch

from pde_data import FieldDataset, MixedDataset


def numbered(n, size=8, first=0):
    """Items that tell their number."""
    values = np.broadcast_to(first + np.arange(float(n))[:, None], (n, size))
    return FieldDataset.from_arrays(inputs=values, targets=-values)


def mixture():
    """Eleven items of size 8, five of size 12, four more of size 8."""
    return MixedDataset([numbered(11), numbered(5, 12, first=11), numbered(4, first=16)])


def items(batch):
    x, y = batch
    assert torch.equal(x, -y)
    return x[:, 0, 0].long().tolist()


def passes(loader, count=1):
    return [[items(batch) for batch in loader] for _ in range(count)]


@pytest.mark.parametrize("make", [lambda: numbered(20), mixture], ids=["one grid", "two grids"])
@pytest.mark.parametrize("batch_size", [3, 4, 32])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_each_batch_of_one_order(make, batch_size, processes):
    whole = passes(make().loader(batch_size, shuffle=True, seed=5), 2)
    assert whole[0] != whole[1]
    options = {"shuffle": True, "seed": 5, "processes": processes}
    parts = [passes(make().loader(batch_size, rank=rank, **options), 2) for rank in range(processes)]
    for epoch, batches in enumerate(whole):
        assert sorted(sum(batches, [])) == list(range(20))
        for number, batch in enumerate(batches):
            shares = [part[epoch][number] for part in parts]
            assert all(shares) and len(parts[0][epoch]) == len(batches)
            if len(batch) >= processes:
                assert sum(shares, []) == batch
                assert max(map(len, shares)) - min(map(len, shares)) <= 1
            else:  # nobody is left waiting
                assert set(sum(shares, [])) == set(batch)


@pytest.mark.parametrize(("make", "workers"), [(lambda: numbered(20), 0), (mixture, 0), (mixture, 1)])
def test_k_batches_and_the_rest_are_the_whole_for_every_rank(make, workers):
    for rank in range(2):
        options = {"shuffle": True, "seed": 1, "rank": rank, "processes": 2, "num_workers": workers}
        whole = passes(make().loader(3, **options), 3)
        for stop in (4,) if workers else (0, 1, 4, len(whole[1])):
            loader = make().loader(3, **options)
            begun = passes(loader)
            if stop:
                begun.append([])
                for batch in loader:
                    begun[1].append(items(batch))
                    if len(begun[1]) == stop:
                        break
            state = json.loads(json.dumps(loader.state_dict()))  # with workers, batches were read ahead
            again = make().loader(3, **options)
            again.load_state_dict(state)
            again.set_epoch(state["epoch"])  # as a loop over epochs does, which changes nothing
            assert again.state_dict() == state
            rest = passes(again, 2)
            assert (begun[1] if stop else []) + rest[0] == whole[1]
            assert rest[1] == whole[2]


def test_a_state_may_go_on_with_another_number_of_processes():
    whole = passes(mixture().loader(4, shuffle=True))[0]
    loader = mixture().loader(4, shuffle=True, rank=1, processes=2)
    given = iter(loader)
    next(given), next(given)
    alone = mixture().loader(4, shuffle=True)
    alone.load_state_dict(loader.state_dict())
    assert passes(alone)[0] == whole[2:]


def test_a_pass_that_was_left_begins_anew():
    loader = numbered(20).loader(3, shuffle=True)
    next(iter(loader))
    assert passes(loader, 2) == passes(numbered(20).loader(3, shuffle=True), 2)
    loader.set_epoch(1)
    next(iter(loader))
    loader.set_epoch(7)
    assert loader.state_dict() == {"epoch": 7, "batch": 0}


def test_reading_draws_no_random_numbers_of_torch():
    before = torch.get_rng_state()
    passes(numbered(20).loader(3, shuffle=True))
    assert torch.equal(before, torch.get_rng_state())


def test_last_batches_may_be_dropped():
    loader = mixture().loader(4, drop_last=True, shuffle=True)
    kept = passes(loader)[0]
    assert [len(batch) for batch in kept] == [4] * len(loader) and len(loader) == 15 // 4 + 5 // 4


def test_wrong_shares_and_states():
    pairs = numbered(20)
    with pytest.raises(ValueError, match="rank=2 of processes=2: ranks count from 0 to processes - 1"):
        pairs.loader(4, rank=2, processes=2)
    with pytest.raises(ValueError, match="batch_size=0, expected at least 1"):
        pairs.loader(0)
    with pytest.raises(ValueError, match="a sampler decides order and share"):
        pairs.loader(4, sampler=torch.utils.data.SequentialSampler(pairs), processes=2)
    with pytest.raises(ValueError, match="batch=9 of an epoch of 5 batches: .* another set or batch_size"):
        pairs.loader(4).load_state_dict({"epoch": 0, "batch": 9})
