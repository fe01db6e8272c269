"Active learning and losses for defect segmentation under class imbalance and label shift"

from importlib import import_module

__version__ = "0.1.0"


def face(package, rooms):
    """What a wing shows: `__getattr__`, `__dir__` and `__all__` of a package whose names load late

    `rooms` maps a room to the names that a user types from it, a room is loaded when one of its
    names is first asked for (PEP 562). So `import imbal_al.losses` loads no torch.
    """
    home = {name: room for room, names in rooms.items() for name in names.split()}

    def load(name):
        if name not in home:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        return getattr(import_module(f'{package}.{home[name]}'), name)

    def names():
        return sorted(home)

    return load, names, list(home)
