"All that the pins take from the library: where a name moves, this file alone changes"

from imbal_al.advise import advise_folder
from imbal_al.claims import claims, claims_markdown, in_short, paired_areas, run_areas, summary
from imbal_al.cli import app
from imbal_al.compare import compare_folder, compare_results, figures_of, least_repeats
from imbal_al.compare import report_markdown, with_sampling
from imbal_al.engine import plan, preset, results_table, run_study, save_plan
from imbal_al.figures import alt_text, fig4, fig5, uniqueness_table
from imbal_al.guidance import compare as compare_guidance
from imbal_al.guidance import grid, guide
from imbal_al.label_costs import cost_curves, cost_table
from imbal_al.learner import choose_precision
from imbal_al.loss_claims import claims as loss_claims
from imbal_al.loss_claims import variant_evidence, variant_verdict
from imbal_al.loss_figures import epochs_to_half, fig9, fig10, fig11, fig14, final, replays
from imbal_al.loss_figures import table3, table4, table5, table6, table6_markdown, table_markdown
from imbal_al.loss_study import LossConfig, loss_preset, loss_results, plan_losses, run_losses
from imbal_al.losses import PaperComboLoss
from imbal_al.metrics import paired_interval
from imbal_al.project import labels, open_project
from imbal_al.rehearsal import price
from imbal_al.remedies import against_plain, guided, loss_rows, rates_in, remedy_table
from imbal_al.remedies import threshold_remedies
from imbal_al.report import write_report
from imbal_al.shift import choose_threshold, cross_fitted, decompose, difference
from imbal_al.shift import estimate_prevalence, f1_at, growth, image_rates, oii_at
from imbal_al.shift import operating_point, read_run, recovery, split_loss
from imbal_al.simulation import RunConfig, as_config
from imbal_al.strategies import STRATEGIES, Candidates, k_center_greedy, mean_entropy, select
from imbal_al.strategies import select_spread
from imbal_al.synthetic import dataset, image
from imbal_al.training import LOSSES, make_loss
