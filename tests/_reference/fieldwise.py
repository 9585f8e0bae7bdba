"""Readable twin of the field-wise kernels: one coordinate at a time on a dense matrix, everything computed anew."""

import numpy as np


def score(X, part_of, mixing, bias, linear, factors):
    """bias + w · x + Σ over pairs j < k of interacting columns of v_j · v_k x_j x_k; factors (n_factors, n_columns)."""
    out = np.empty(len(X))
    for i, x in enumerate(X):
        total = bias + linear @ x
        for j in range(len(x)):
            for k in range(j + 1, len(x)):
                total += mixing[part_of[j], part_of[k]] * (factors[:, j] @ factors[:, k]) * x[j] * x[k]
        out[i] = total
    return out


def draw(h, e, weights, theta, mean, precision, alpha, noise):
    """A draw of θ, given the derivative h of the scores by θ and the residuals e."""
    sharpness = precision + alpha * np.sum(weights * h * h)
    centre = (alpha * np.sum(weights * h * (e + theta * h)) + precision * mean) / sharpness
    return centre + noise / np.sqrt(sharpness)


def sweep(X, y, weights, part_of, mixing, order, bias, linear, factors, prior, noise, alpha):
    """All linear weights in the given order, then all factors; prior (2, 1 + n_factors, n_columns)."""
    linear, factors = linear.copy(), factors.copy()
    for j in order:
        e = y - score(X, part_of, mixing, bias, linear, factors)
        linear[j] = draw(X[:, j], e, weights, linear[j], prior[0, 0, j], prior[1, 0, j], alpha, noise[0, j])
    for f in range(len(factors)):
        for j in order:
            e = y - score(X, part_of, mixing, bias, linear, factors)
            others = [k for k in range(X.shape[1]) if k != j]
            partners = mixing[part_of[j], part_of[others]] * factors[f, others]
            h = X[:, j] * (X[:, others] @ partners)
            theta = factors[f, j]
            factors[f, j] = draw(h, e, weights, theta, prior[0, 1 + f, j], prior[1, 1 + f, j], alpha, noise[1 + f, j])
    return linear, factors


def join_fields(codes, room):
    """Fields of each block, for one-hot fields of codes (n, n_fields): every pair is counted, the first best kept."""
    blocks = []
    for field in sorted(range(codes.shape[1]), key=lambda k: (-len(np.unique(codes[:, k])), k)):
        best, least = None, len(np.unique(codes[:, field])) + room * len(codes)
        for block in blocks:
            both = len(np.unique(codes[:, [*block, field]], axis=0)) * (len(block) + 1)
            growth = both - len(np.unique(codes[:, block], axis=0)) * len(block)
            if growth < least or (best is None and growth == least):
                best, least = block, growth
        if best is None:
            blocks.append([field])
        else:
            best.append(field)
    return blocks
