from . import scores, diversity
