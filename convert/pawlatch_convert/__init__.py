"""From a SavedModel to what a small board runs, and the proof that it still decides as the SavedModel did."""

from pawlatch_convert.pipeline import ConvertOptions, convert_model
from pawlatch_convert.table import render_table

__all__ = ["ConvertOptions", "convert_model", "render_table"]
