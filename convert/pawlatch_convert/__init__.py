"""From a SavedModel to what a small board runs, and the proof that it still decides as the SavedModel did."""

from pawlatch_convert.pipeline import convert_model
from pawlatch_convert.table import render_table

__all__ = ["convert_model", "render_table"]
