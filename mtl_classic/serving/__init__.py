"""Scores of many rows: in chunks, to files, and the best of them; scores of one row in microseconds."""

from mtl_classic.serving._compiled import CompiledModel
from mtl_classic.serving._scores import predict_scores_in_chunks, write_scores
from mtl_classic.serving._top_k import top_k

__all__ = ["CompiledModel", "predict_scores_in_chunks", "top_k", "write_scores"]
