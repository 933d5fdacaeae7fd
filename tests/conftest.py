"""Every test computes on one thread: the processes of the suite share the cores, and threads that wait for one another cost more."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)
