"The loop while somebody looks"

from imbal_al import face

__getattr__, __dir__, __all__ = face(__name__, {'demo': 'walk_demo'})
