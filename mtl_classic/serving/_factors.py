"""Who might want what, before the model is asked: all items for a user, by the factors that there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import sparse

from mtl_classic._core.keys import key_positions
from mtl_classic.events import EventLog, HistoryFeatures
from mtl_classic.factorization import LatentFeatures, MatrixFactorization
from mtl_classic.factorization._design import listed
from mtl_classic.factorization._explicit import ExplicitFactors
from mtl_classic.factorization._feedback import Ids
from mtl_classic.factorization._fm_base import BaseFactorizationMachine
from mtl_classic.factorization._implicit import with_mean, with_unseen
from mtl_classic.factorization._matrix_columns import nearest
from mtl_classic.preprocessing._blocks import OneHot

__all__ = ["Factors", "find_factors", "log_of", "seen_pairs"]

Array = npt.NDArray[Any]
_SEED = 0  # of factors that are made from a log only to recommend: the same log, the same candidates
_OF_LOG: WeakKeyDictionary[EventLog, MatrixFactorization] = WeakKeyDictionary()


class Factors(Protocol):
    """Vectors of users and items."""

    @property
    def items(self) -> pd.Index:
        """Items that have a vector."""
        ...

    def scores(self, users: pd.DataFrame, items: pd.DataFrame) -> Array:
        """All pairs, (n_users, n_items): higher is better for a user; ids without a vector are like the mean one."""
        ...

    def nearest(self, side: str, ids: Any, n: int) -> pd.DataFrame:
        """Pairs of ids of one side, "user" or "item", with their cosines, the best first."""
        ...


def log_of(model: Any) -> EventLog | None:
    """The event log of the history, or None where there is none or the fitted rows are it."""
    for _, step in model.pipeline_.steps:
        if isinstance(step, HistoryFeatures) and not step.own_:
            return step.log_
    return None


def find_factors(model: Any) -> Factors:
    """The matrix factorization of the latent step, else its user × item machine, else factors of the log.

    Raises
    ------
    ValueError
        If there is none of them, or the model has no columns for user and item.
    """
    user, item = model.roles_["user"], model.roles_["item"]
    if user is None or item is None:
        raise ValueError(f"Factors are of users and items; name their columns with user= and item=: {model.roles_}.")
    latent = [m for _, s in model.pipeline_.steps if isinstance(s, LatentFeatures) for m in s.models_.values()]
    matrices = [m for m in latent if isinstance(m, MatrixFactorization)]
    machines = [m for m in latent if _sides(m, user, item) is not None]
    if matrices:
        return OfMatrix(matrices[0], user, item)
    if machines:
        return OfMachine(machines[0], user, item)
    log = log_of(model)
    if log is None or not log.n_events:
        raise ValueError(
            "There are no factors of users and items. Fit with events=, or with latent=LatentFeatures([('als', "
            "MatrixFactorization())]); a model that was loaded without its events needs observe(log) first."
        )
    if log not in _OF_LOG:
        columns: dict[str, Any] = {role: log.roles[role] for role in ("user", "item")}
        rows = pd.DataFrame({name: [None] for name in columns.values()})
        made = MatrixFactorization(**columns, n_jobs=model.n_jobs, random_state=_SEED)
        _OF_LOG[log] = made.fit(rows, events=log)
    return OfMatrix(_OF_LOG[log], user, item)


def seen_pairs(log: EventLog, users: pd.Series, items: pd.Series) -> Array:
    """Which of the items each user has any event with, bool of shape (n_users, n_items)."""
    (user, user_ids), (item, item_ids) = (log.encode(log.roles[role]) for role in ("user", "item"))
    wanted = key_positions(user_ids, pd.Index(users))
    distinct = np.unique(wanted[wanted >= 0])
    row_of = np.full(len(user_ids) + 1, -1)  # the last for the code -1, of ids that are missing or not in the log
    row_of[distinct] = np.arange(len(distinct))
    of_user = row_of[user]
    known = (of_user >= 0) & (item >= 0)
    shape = (len(distinct) + 1, len(item_ids) + 1)  # the last row and column, -1, are those of no id
    pairs = sparse.csr_matrix((np.ones(int(known.sum()), bool), (of_user[known], item[known])), shape=shape)
    return np.asarray(pairs[row_of[wanted]][:, key_positions(item_ids, pd.Index(items))].toarray() > 0)


class OfMatrix:
    """The vectors of a `MatrixFactorization`."""

    def __init__(self, model: MatrixFactorization, user: str, item: str) -> None:
        self.model, self.user, self.item = model, user, item

    @property
    def items(self) -> pd.Index:
        """Items that have a vector."""
        return self.model.items_

    def scores(self, users: pd.DataFrame, items: pd.DataFrame) -> Array:
        """All pairs."""
        user, item = self.model._users.codes(users[self.user]), self.model._items.codes(items[self.item])
        factors = self.model._factors
        if isinstance(factors, ExplicitFactors):  # a mean over draws, which no product of two vectors gives
            pairs = [codes.ravel() for codes in np.meshgrid(user, item, indexing="ij")]
            return np.asarray(factors.score(*pairs)).reshape(len(users), len(items))
        products = with_unseen(factors)[user] @ with_mean(factors.items)[item].T
        return np.asarray(products + with_mean(factors.item_bias)[item])

    def nearest(self, side: str, ids: Any, n: int) -> pd.DataFrame:
        """Pairs of ids with their cosines."""
        return self.model.similar_users(ids, n) if side == "user" else self.model.similar_items(ids, n)


class OfMachine:
    """The two sides of a factorization machine whose interactions are those of a user's side with an item's side.

    A side's vector is the sum over its columns, so that a user's context and an item's category count. Of a machine
    that was sampled all draws count, side by side: their product is the sum of the draws' products.
    """

    def __init__(self, model: Any, user: str, item: str) -> None:
        self.model, self.columns = model, {"user": user, "item": item}
        self.sides = _sides(model, user, item) or {}
        self.factors, self.linear, self.scale = model.factors_, model.coef_, 1.0
        if (draws := model._extra) is not None:
            self.factors, self.linear = draws.factors.reshape(len(draws.factors), -1), draws.linear.sum(axis=1)
            self.scale = draws.scale.deviation / draws.n_draws

    @property
    def items(self) -> pd.Index:
        """Items that have a vector."""
        values: pd.Index = self.model._design.encoder._fields[self.columns["item"]].vocabulary.values
        return values

    def scores(self, users: pd.DataFrame, items: pd.DataFrame) -> Array:
        """All pairs, up to what does not depend on the item."""
        rows = self._rows(items)
        of_item = self.model._interactions.parts == self.sides["item"]
        linear = self.model._design.transform(rows) @ np.where(of_item, self.linear, 0.0)
        products = self._vectors("user", self._rows(users)) @ self._vectors("item", rows).T
        return np.asarray((products + linear) * self.scale)

    def nearest(self, side: str, ids: Any, n: int) -> pd.DataFrame:
        """Pairs of ids with the cosines of the vectors of the ids alone, without category and context."""
        encoder, column = self.model._design.encoder, self.columns[side]
        state = encoder._fields[column]
        known = Ids()
        known.vocabulary = state.vocabulary
        slots = state.slots(np.arange(1, len(state.vocabulary)))
        return nearest(known, self.factors[encoder.fields_[column][slots]], ids, n, side)

    def _rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """With all columns that the machine was fitted with; what is not there is missing."""
        return table.reindex(columns=list(self.model.feature_names_in_))

    def _vectors(self, side: str, rows: pd.DataFrame) -> Array:
        columns = np.flatnonzero(self.model._interactions.parts == self.sides[side])
        return np.asarray(self.model._matrix(rows)[:, columns] @ self.factors[columns], dtype=np.float32)


def _sides(machine: Any, user: str, item: str) -> dict[str, int] | None:
    """The parts of user and item, or None where the machine is not of these two sides, or has no vectors of ids."""
    if not isinstance(machine, BaseFactorizationMachine) or machine._parameters.n_outputs is not None:
        return None
    encoder, groups, mixing = machine._design.encoder, machine.groups, machine._interactions.mixing
    if encoder is None or mixing is None or not isinstance(groups, Mapping) or len(groups) != 2:
        return None
    if not all(isinstance(encoder._fields.get(column), OneHot) for column in (user, item)):
        return None
    part_of = {str(name): k for k, members in enumerate(groups.values()) for name in listed(members)}
    sides = {"user": part_of.get(user), "item": part_of.get(item)}
    apart = None not in sides.values() and sides["user"] != sides["item"]
    alone = not np.diag(mixing).any()
    return {side: part for side, part in sides.items() if part is not None} if apart and alone else None
