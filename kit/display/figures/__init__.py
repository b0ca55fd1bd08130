"""Figures: each a function of a frame, drawn in one style.

Notebooks write `figures.draw_...(table)`.
"""

# What notebooks call; nothing here is used in this file.
# ruff: noqa: F401
from kit.display.figures.common import style
from kit.display.figures.evaluation import (
    draw_form_and_skill,
    draw_groups,
    draw_paired,
    draw_pass_at_k,
)
from kit.display.figures.problems import (
    draw_lineage,
    draw_pass_rates,
    draw_seeds,
    draw_slopes,
    draw_teacher_quality,
)
from kit.display.figures.study import draw_board, draw_heat, draw_sharpening
from kit.display.figures.training import draw_curriculum, draw_health, draw_learning
from kit.display.figures.yields import (
    draw_bins,
    draw_funnel,
    draw_ratio,
    draw_sensitivity,
    draw_stepping_stones,
)
