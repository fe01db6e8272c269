from configparser import ConfigParser
from setuptools import setup

cfg = ConfigParser(delimiters=['=']); cfg.read('settings.ini'); cfg = cfg['DEFAULT']
extras = {k.removesuffix('_requirements'): v.split() for k,v in cfg.items() if k.endswith('_requirements')}
setup(install_requires=cfg['requirements'].split(), extras_require=extras,
      entry_points=dict(console_scripts=cfg['console_scripts'].split(), nbdev=['imbal_al=imbal_al._modidx:d']))
