"F1, OII, prevalence, thresholds, and how sure a number is"

from imbal_al import face

__getattr__, __dir__, __all__ = face(
    __name__,
    {
        'metrics': (
            'histogram confusion counts scores scores_at f1_curve threshold_curve best_threshold '
            'pixel_average_precision faulty_share uniqueness '
            'budget_auc'
        ),
        'oii': (
            'iou precision recall class_oii soft_oii imbalance_metrics imbalance_recorder'
        ),
        'few_images': 'score_interval',
        'image_level': 'image_curve auroc average_precision spared caught_and_flagged',
        'parts': 'regions measure_parts part_level kind_levels pro_curve aupro aupimo',
        'prevalence': 'Prevalence estimate_prevalence',
        'sampling': 'share_interval',
        'shift': 'f1_at oii_at Loss growth difference',
        'statistics': (
            'Interval mean_interval paired_interval welch_interval '
            'non_inferior wilcoxon least_repeats holm equivalent random_effects '
            'cluster_interval shared_interval repeats_needed needed'
        ),
        'threshold': 'choose_threshold cross_fitted OperatingPoint operating_point cost_point',
        'verdict': 'Rule PartCosts rule_by_costs rule_by_recall rule_by_alarms',
    },
)
