"""The ground floor: what every part of the library agrees on (tasks, targets, roles, seeds, threads, errors)."""
