"The last that the server of `quick` loads before it forks: what holds in each process that it forks"

import torch

import quick
from imbal_al.networks.models import create_model

quick.networks_once()
quick.no_wait_for_the_disk()
state = torch.random.get_rng_state()
threads = torch.get_num_threads()
torch.set_num_threads(1)  # A process with threads of its own is not to be forked
create_model()
torch.set_num_threads(threads)
torch.random.set_rng_state(state)
