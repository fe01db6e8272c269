"Which images to label next"

from imbal_al import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        'choose': 'select STRATEGIES',
        'diversity': 'k_center_greedy coreset entropy_coreset badge nearest',
        'novelty': 'first_finds heat_map',
        'registry': 'Candidates strategy',
        'scores': (
            'random random_faulty random_predicted_faulty mean_entropy entropy margin '
            'entropy_foreground largest_alarm bald clasp quota'
        ),
    },
)
