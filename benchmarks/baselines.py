"""Baselines that a generative model has to beat, in NumPy: mixtures of Bernoullis by EM, and normal laws.

    mixture:      p(x) = sum_k pi_k prod_i theta_ki^x_i (1 - theta_ki)^(1 - x_i)
    EM:           r_nk ~ pi_k p(x_n | k),   pi_k = (sum_n r_nk + 1/2) / (N + K/2),
                  theta_ki = (sum_n r_nk x_ni + 1/2) / (sum_n r_nk + 1)

which climbs log p(x_1, .., x_N) + 1/2 sum log pi_k + 1/2 sum_ki log theta_ki (1 - theta_ki). Log-densities are in nats
per row.

Reference: Maximum Likelihood from Incomplete Data via the EM Algorithm (Dempster et al., 1977), section 4.3.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Mixture", "Normal", "best_mixture", "best_normal", "em_step", "independent_normal"]

SHRINKAGE = (0.0, 1e-3, 1e-2, 1e-1)
"""Shares of the diagonal among which validation rows choose for the covariance of a full normal law."""


@dataclass(frozen=True)
class Mixture:
    """A mixture of K products of Bernoullis over V units.

    Args:
        log_pi: log weights, shape (K,).
        theta: probabilities of a one, shape (K, V), inside (0, 1).
    """

    log_pi: np.ndarray
    theta: np.ndarray

    def joint(self, x: np.ndarray) -> np.ndarray:
        """log pi_k p(x_n | k), shape (N, K)."""
        return self.log_pi + x @ np.log(self.theta).T + (1.0 - x) @ np.log1p(-self.theta).T

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """log p(x_n), shape (N,)."""
        return np.logaddexp.reduce(self.joint(x), axis=1)


def em_step(mixture: Mixture, x: np.ndarray) -> tuple[Mixture, float]:
    """One step of EM over rows (N, V), and mean log p(x_n) before it."""
    joint = mixture.joint(x)
    log_p = np.logaddexp.reduce(joint, axis=1)
    r = np.exp(joint - log_p[:, None])
    total = r.sum(0)
    log_pi = np.log((total + 0.5) / (len(x) + 0.5 * len(total)))
    return Mixture(log_pi, (r.T @ x + 0.5) / (total[:, None] + 1.0)), float(log_p.mean())


def best_mixture(
    train: np.ndarray, valid: np.ndarray, *, components: int, restarts: int, steps: int, seed: int
) -> Mixture:
    """The best on the validation rows of several runs of EM, each from rows of the data blurred towards their mean.

    A run ends after `steps` steps, or where a step gains less than 1e-4 nats per row.
    """
    train, valid = train.astype(float), valid.astype(float)
    found = []
    for rng in np.random.default_rng(seed).spawn(restarts):
        rows = train[rng.choice(len(train), components, replace=len(train) < components)]
        theta = 0.5 * train.mean(0) + 0.25 * rows + 0.25 * rng.uniform(0.25, 0.75, rows.shape)
        mixture, last = Mixture(np.full(components, -np.log(components)), theta), -np.inf
        for _ in range(steps):
            mixture, value = em_step(mixture, train)
            if value - last < 1e-4:
                break
            last = value
        found.append(mixture)
    return max(found, key=lambda m: m.log_prob(valid).mean())


@dataclass(frozen=True)
class Normal:
    """A normal law of V units.

    Args:
        mean: shape (V,).
        covariance: shape (V, V), positive definite.
    """

    mean: np.ndarray
    covariance: np.ndarray

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """log p(x_n), shape (N,)."""
        root = np.linalg.cholesky(self.covariance)
        z = np.linalg.solve(root, (x - self.mean).T)
        return -0.5 * ((z**2).sum(0) + len(root) * np.log(2 * np.pi)) - np.log(np.diag(root)).sum()


def independent_normal(train: np.ndarray) -> Normal:
    """Means and variances of the training rows."""
    train = train.astype(float)
    return Normal(train.mean(0), np.diag(train.var(0)))


def best_normal(train: np.ndarray, valid: np.ndarray) -> Normal:
    """Mean and covariance S of the training rows: (1 - a) S + a diag(S) with the a that is best on validation rows."""
    train, valid = train.astype(float), valid.astype(float)
    s = np.cov(train.T, bias=True).reshape(train.shape[1], -1)
    laws = (Normal(train.mean(0), (1 - a) * s + a * np.diag(np.diag(s))) for a in SHRINKAGE)
    proper = [law for law in laws if np.linalg.eigvalsh(law.covariance)[0] > 1e-9 * np.diag(s).min()]
    return max(proper, key=lambda law: law.log_prob(valid).mean())
