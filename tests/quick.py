"""What spares the tests minutes and changes nothing that they see

A tree of commands and a network are built once, then used again or copied.
Notebooks are forked from a process that has loaded what most of them load.
"""

import copy, functools, sys

LOADED = [
    'nbdev.test',
    'fastcore.test',
    'matplotlib.pyplot',
    'scipy.stats',
    'imbal_al.cli',
    'imbal_al.networks.features',
    'imbal_al.networks.learner',
    'imbal_al.project.deploy',
    'imbal_al.project.rounds',
    'imbal_al.project.standing',
    'imbal_al.results.report',
    'imbal_al.studies.learning_study',
    'imbal_al.studies.loss_study',
    'segmentation_models_pytorch',
    'quick',
]  # What the server of notebooks loads before the first


def commands_once():
    "Typer builds the tree of all commands at every call of a test: .1 s each"
    import typer.testing as testing

    if not hasattr(testing._get_command, 'cache_info'):
        testing._get_command = functools.cache(testing._get_command)


def _generator_state():
    import torch

    return torch.random.get_rng_state()


def copied(make):
    """`make(class, encoder, weights, channels)` with a memory: same words and same state of torch's generator, same network

    The generator is left as the making leaves it. Fails as `make` does, and forgets that.
    """
    made = {}

    @functools.wraps(make)
    def again(kind, encoder, weights, channels):
        import torch

        before = _generator_state()
        words = tuple(sorted((name, repr(value)) for name, value in channels.items()))
        key = kind, encoder, weights, words, before.numpy().tobytes()
        if key not in made:
            net = make(kind, encoder, weights, channels)
            if len(made) > 3:
                made.clear()
            made[key] = copy.deepcopy(net), _generator_state()
            return net
        net, after = made[key]
        torch.random.set_rng_state(after)
        return copy.deepcopy(net)

    again.copied = True
    return again


def networks_once():
    "Networks are copied from now on, if the room that makes them is loaded"
    room = sys.modules.get('imbal_al.networks.models')
    if room and hasattr(room, '_made') and not hasattr(room._made, 'copied'):
        room._made = copied(room._made)
