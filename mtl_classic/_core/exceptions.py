"""Errors and warnings with a name, so that a nightly job can catch exactly what it knows how to handle."""

__all__ = [
    "ConstantTaskWarning",
    "DatesAsNumbersWarning",
    "EmptyLogWarning",
    "FallbackWarning",
    "FoldError",
    "FunnelConflictError",
    "FunnelConflictWarning",
    "LabelError",
    "LeakedLabelWarning",
    "LostDigitsWarning",
    "RepeatedEventsWarning",
    "RoleError",
    "RowOrderWarning",
    "TaskError",
    "UnlabelledTaskError",
    "UnseenClassError",
    "UnusedColumnsWarning",
]


class ConstantTaskWarning(UserWarning):
    """A task has labels of one class only: a constant is trained for it."""


class DatesAsNumbersWarning(UserWarning):
    """A time column holds integers that are dates written as yyyymmdd: between months its durations are wrong."""


class EmptyLogWarning(UserWarning):
    """A model was loaded without the events of its log: its history counts nothing before `observe`."""


class FallbackWarning(UserWarning):
    """A part that was asked for made a task worse, or could not work, and a simpler one took its place."""


class FunnelConflictWarning(UserWarning):
    """A child often happened where its parent did not: those labels are 0."""


class LeakedLabelWarning(UserWarning):
    """X has a column that is the label of a task: what is to be predicted is a feature."""


class LostDigitsWarning(UserWarning):
    """Ids are floats too long to tell neighbours apart: different ids may have become one."""


class RepeatedEventsWarning(UserWarning):
    """Most of the events appended to a log are in it already: they count twice."""


class RowOrderWarning(UserWarning):
    """Neighbouring rows resemble each other, and they are held out at random: scores will promise too much."""


class UnusedColumnsWarning(UserWarning):
    """Categorical columns have too many values to be features, and no other column tells of them."""


class TaskError(ValueError):
    """The tasks do not make sense: names, kinds, parents, or their match with Y."""


class LabelError(ValueError):
    """The labels of a task are not what its kind allows."""


class UnlabelledTaskError(LabelError):
    """A task has no label at all in the rows given."""


class UnseenClassError(TaskError):
    """A task happened under a class of its parent that no row has: it is misspelt."""


class FunnelConflictError(LabelError):
    """A child label is non-zero where the parent label is negative."""


class RoleError(ValueError):
    """A column that plays a role (user, item, time, query) is missing or ambiguous."""


class FoldError(ValueError):
    """Folds that cannot be made, or that split what must stay together."""
