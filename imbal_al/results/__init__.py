"Tables, figures and verdicts of studies"

from imbal_al import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        'advise': 'advise_folder',
        'claims': 'pooled_claims held_together summary claims_markdown in_short',
        'compare': 'compare_results',
        'compare_report': 'penalty_figure forest rank_figure compare_folder',
        'figures': 'fig2 fig3 fig4 fig5',
        'gallery': 'picks_gallery predictions_gallery play',
        'in_images': 'with_images image_means',
        'kinds': 'with_kinds kind_means',
        'label_costs': 'add_cost cost_curves cost_table cost_figure',
        'loss_claims': 'variant_evidence variant_verdict pooled_losses',
        'loss_figures': 'fig9 fig10 fig11 fig14',
        'loss_tables': (
            'table3 table4 table5 table_markdown threshold_table threshold_markdown '
            'table6 table6_markdown'
        ),
        'remedies': 'recovery remedy_table guided remedy_figure',
        'report': 'write_report',
        'tables': 'run_areas paired_areas',
    },
)
