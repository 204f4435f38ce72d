"""What all tests of networks share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def reproducible():
    """The same numbers every time, on one thread: tiny tensors only lose by a second one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)
