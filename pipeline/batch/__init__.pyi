from .options import BatchOptions
from .run import BatchResult, run_batch

__all__ = ["BatchOptions", "BatchResult", "run_batch"]
