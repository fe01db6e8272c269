"Runs on disk: any number of processes, any fault, nothing lost"

from imbal_al import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        'collect': 'results_table status',
        'engine': 'retry',
        'plan': 'Kind',
    },
)
