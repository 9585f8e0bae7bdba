"""Codes and statistics: what turns a table into numbers before the learners see it."""

__all__: list[str] = []
