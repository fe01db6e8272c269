"The oldest versions that settings.ini allows, and what the tests need beside them, one a line, for pip"
from configparser import ConfigParser
from pathlib import Path

# Below Pillow 11.0 colour of 16 bits loses its lower byte, below typer 0.20 --help fails
# The last of these that go with NumPy 1
BESIDE = ['pytest', 'pytest-xdist', 'hypothesis', 'mpmath', 'scikit-image==0.22.0', 'pycocotools==2.0.7']


def pins(text):
    "`name>=1.2` as `name==1.2`; another word as it stands"
    return [word.replace('>=', '==') for word in text.split()]


if __name__ == '__main__':
    settings = ConfigParser(delimiters=['='])
    settings.read(Path(__file__).parents[1] / 'settings.ini')
    print('\n'.join(pins(settings['DEFAULT']['requirements']) + BESIDE))
