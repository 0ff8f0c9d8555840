import hashlib
import random

import torch

from fedmend.seeds import derive_seed, generator, unpredictable_seed


def test_a_seed_depends_on_every_part_and_their_order() -> None:
    seeds = {
        derive_seed(0),
        derive_seed(1),
        derive_seed(0, "fit"),
        derive_seed(0, "fit", 1, 2),
        derive_seed(0, "fit", 2, 1),
        derive_seed(0, "fit", 12),
        derive_seed(0, "choose", 1, 2),
    }
    assert len(seeds) == 7


def test_seeds_are_the_same_on_every_machine() -> None:
    digest = hashlib.sha256(b"5/fit/3/0").digest()
    assert derive_seed(5, "fit", 3, 0) == int.from_bytes(digest[:8], "big") // 2


def test_seeds_fit_what_torch_and_numpy_take() -> None:
    seeds = [derive_seed(0, part) for part in range(1000)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert len(set(seeds)) == 1000


def test_generators_are_independent_of_the_global_one() -> None:
    before = torch.get_rng_state()
    first = torch.rand(4, generator=generator(3, "part"))
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(torch.rand(4, generator=generator(3, "part")), first)
    assert not torch.equal(torch.rand(4, generator=generator(3, "other")), first)


def test_unpredictable_seeds_differ_and_leave_generators_alone() -> None:
    before = torch.get_rng_state()
    random.seed(0)
    seeds = [unpredictable_seed()]
    random.seed(0)
    seeds += [unpredictable_seed() for _ in range(20)]
    assert len(set(seeds)) > 15
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert torch.equal(torch.get_rng_state(), before)
