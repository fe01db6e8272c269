"Active learning simulated, losses compared"

from imbal_al import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        'learning_study': 'plan preset run_study story',
        'loss_config': 'LossConfig',
        'loss_study': 'plan_losses run_losses loss_results',
        'run_config': 'RunConfig',
        'run_costs': 'estimate',
        'simulation': 'run',
    },
)
