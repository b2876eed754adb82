"""Folders of videos: found, worked through by several processes or machines, and accounted for."""

from gridpose.pipeline.batch.options import BatchOptions
from gridpose.pipeline.batch.run import BatchResult, run_batch

__all__ = ["BatchOptions", "BatchResult", "run_batch"]
