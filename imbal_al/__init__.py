"""Finds rare, tiny defects: picks images to label, trains, exports ONNX

Modules:

- `imbal_al.dev.watch`: A hundred quiet days, and days on which one thing has moved: how often each kind is named
- `imbal_al.losses.compound`: A loss of pixels and a loss of regions, added: where one has no slope the other has
- `imbal_al.losses.guidance`: OII chooses the false-negative weight in a few trainings
- `imbal_al.losses.numerics`: Sums that stay exact from one defect pixel to all, at logits of any size
- `imbal_al.losses.pixel`: Cross entropy, Focal and the distribution part of DIBE: a curve for each pixel, and what its slope does when defects are rare
- `imbal_al.losses.region`: Dice, Tversky and the region part of DIBE: ratios of sums, where a thousand healthy pixels weigh nothing
- `imbal_al.measure.drift`: Two sets of pictures compared by permutation over groups
- `imbal_al.measure.few_images`: Intervals of F1, recall or OII from a handful of images
- `imbal_al.measure.image_level`: Faulty parts caught, good parts flagged, and how many good parts need no human, at any prevalence
- `imbal_al.measure.metrics`: Every score at every prevalence and every threshold, from two small histograms per image
- `imbal_al.measure.oii`: One number between -1 and 1 that says whether a model misses defects or invents them
- `imbal_al.measure.parts`: Defects found, how far they are overlapped, and false regions, at every threshold and smallest size
- `imbal_al.measure.prevalence`: How many of the images are faulty, from the network's output
- `imbal_al.measure.sampling`: An honest answer where one part in twenty is faulty: test where the network finds something, weigh by how likely that was
- `imbal_al.measure.shift`: Why F1 falls when fewer images are faulty than in training, and how much a threshold recovers
- `imbal_al.measure.statistics`: Intervals, tests and the number of repeats they take
- `imbal_al.measure.threshold`: The best threshold at the prevalence in production, chosen on other images
- `imbal_al.measure.verdict`: Accept, look at it, or reject: one rule, chosen by what a missed part, a discarded part and an inspection cost
- `imbal_al.networks.background`: What the surface looks like, without light, blur and noise
- `imbal_al.networks.looks`: Light, sharpness and noise of a picture in a few numbers
- `imbal_al.project.moved`: Light, focus, surface, share and network: each tested, each in words
- `imbal_al.project.watch`: What has moved since the labels, drawn, with the odd pictures in a queue
- `imbal_al.project.watched`: One compact record a picture, beside the table of `predict`
- `imbal_al.strategies.diversity`: Core-set, BADGE and their kin: picks by where images lie among each other
- `imbal_al.strategies.k_center`: The farthest point again and again, exactly, without computing most distances
- `imbal_al.strategies.scores`: Random, and strategies that take the highest scores"""

from importlib import import_module

__version__ = "0.2.0"


def face(
    package,  # Its name
    rooms,  # Room -> the names that a user types from it, with blanks between
):
    """What a wing shows: `__getattr__`, `__dir__` and `__all__` of a package whose names load late

    A room is loaded when one of its names is first asked for (PEP 562).
    So `import imbal_al.losses` loads no torch.
    """
    home = {name: room for room, names in rooms.items() for name in names.split()}
    listed = ' '.join(rooms.values()).split()
    if len(home) < len(listed):
        raise ImportError(f'{package} lists a name twice')

    def load(name):
        "The value of a name. Raises `AttributeError` where there is none"
        if name not in home:
            raise AttributeError(f'module {package!r} has no attribute {name!r}')
        return getattr(import_module(f'{package}.{home[name]}'), name)

    def names():
        return sorted(home)

    return load, names, list(home)
