"The command line: `imbal-al` and its commands"

from imbal_al import face

__getattr__, __dir__, __all__ = face(__name__, {'commands': 'app main'})
