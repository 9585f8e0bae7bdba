"""Scores of many rows: in chunks, to files, and the best of them."""

from mtl_classic.serving._scores import predict_scores_in_chunks, write_scores
from mtl_classic.serving._top_k import top_k

__all__ = ["predict_scores_in_chunks", "top_k", "write_scores"]
