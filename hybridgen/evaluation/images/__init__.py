"""Evaluation of generated images by a classifier of real ones."""

from hybridgen.evaluation.images.report import ImageReport, ImageSet, evaluate_images

__all__ = ["ImageReport", "ImageSet", "evaluate_images"]
