"All that the pins take from the library: where a name moves, this file alone changes"

from imbal_al.results.advise import advise_folder
from imbal_al.results.claims import claims, claims_markdown, in_short, summary
from imbal_al.results.tables import paired_areas, run_areas
from imbal_al.cli import app
from imbal_al.results.compare_report import compare_folder, figures_of
from imbal_al.results.compare import compare_results
from imbal_al.measure.statistics import least_repeats
from imbal_al.results.compare_report import report_markdown
from imbal_al.results.study_table import with_sampling
from imbal_al.studies.learning_study import plan, preset, run_study
from imbal_al.runs.collect import results_table
from imbal_al.runs.plan import save_plan
from imbal_al.results.plotting import alt_text
from imbal_al.results.figures import fig4, fig5
from imbal_al.results.tables import uniqueness_table
from imbal_al.losses.guidance import compare as compare_guidance
from imbal_al.losses.guidance import grid, guide
from imbal_al.results.label_costs import cost_curves, cost_table
from imbal_al.networks.device import choose_precision
from imbal_al.results.loss_claims import claims as loss_claims
from imbal_al.results.loss_claims import variant_evidence, variant_verdict
from imbal_al.results.loss_tables import epochs_to_half, final, replays
from imbal_al.results.loss_figures import fig9, fig10, fig11, fig14
from imbal_al.results.loss_tables import (
    table3, table4, table5, table6, table6_markdown, table_markdown,
)
from imbal_al.studies.loss_config import LossConfig
from imbal_al.studies.loss_study import loss_preset, loss_results, plan_losses, run_losses
from imbal_al.losses.compound import PaperComboLoss
from imbal_al.measure.statistics import paired_interval
from imbal_al.project.labelled import labels
from imbal_al.project.store import open_project
from imbal_al.dev.rehearsal import price
from imbal_al.results.remedies import against_plain, guided, loss_rows, rates_in, remedy_table
from imbal_al.results.remedies import threshold_remedies
from imbal_al.results.report import write_report
from imbal_al.measure.threshold import choose_threshold, cross_fitted
from imbal_al.measure.shift import decompose, difference
from imbal_al.measure.prevalence import estimate_prevalence
from imbal_al.measure.shift import f1_at, growth, image_rates, oii_at
from imbal_al.measure.threshold import operating_point
from imbal_al.studies.run_records import read_run
from imbal_al.results.remedies import recovery
from imbal_al.measure.shift import split_loss
from imbal_al.studies.run_config import RunConfig, as_config
from imbal_al.strategies.choose import STRATEGIES, select

from imbal_al.strategies.registry import Candidates
from imbal_al.strategies.diversity import k_center_greedy
from imbal_al.strategies.scores import mean_entropy
from imbal_al.strategies.choose import select_spread
from imbal_al.data.synthetic import dataset, image
from imbal_al.losses.registry import LOSSES, make_loss
