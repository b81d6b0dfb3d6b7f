"""Truth from outside the library: energies as the papers write them, everything else by brute force.

NumPy and SciPy in float64, plain loops. An energy is a function `energy(params, state)` of a flat dict of arrays and a
dict of one value an array (no batches). Complex parameters are welcome, so that dE/d theta is exact by a complex step.
`Oracle` needs nothing but the energy and the values that each block can take: sums are over all states, and layers of
real units are integrated as the Gaussians that they are, whose quadratic form is read off the energy itself.
"""

import itertools
import math
from functools import cached_property

import numpy as np
from scipy.special import logsumexp

__all__ = [
    "BINARY", "SPIN", "Oracle", "energy_dbm", "energy_gaussian_bernoulli_rbm", "energy_layers", "energy_rbm",
    "energy_standardized_rbm",
]  # fmt: skip

BINARY = np.array([0.0, 1.0])
SPIN = np.array([-1.0, 1.0])


# --- energies from the papers


def energy_rbm(params, state):
    """E = -(v - mu)'b - (h - nu)'c - (v - mu)'W(h - nu): Melchior et al. (2016), eq. 7."""
    b, c, w = params["v.bias"], params["h.bias"], params["v-h.weight"]
    mu, nu = params.get("v.offset", np.zeros(len(b))), params.get("h.offset", np.zeros(len(c)))
    v, h = state["v"], state["h"]
    total = 0.0
    for i in range(len(v)):
        total -= (v[i] - mu[i]) * b[i]
    for j in range(len(h)):
        total -= (h[j] - nu[j]) * c[j]
    for i in range(len(v)):
        for j in range(len(h)):
            total -= (v[i] - mu[i]) * w[i, j] * (h[j] - nu[j])
    return total


def energy_standardized_rbm(params, state):
    """E = sum_i (v_i - l_i)^2 / (2 s_i^2) - b'(z - mu) - c'h - (z - mu)' W h with z_i = (v_i - l_i) / u_i."""
    b, w, c, mu = params["v.bias"], params["v-h.weight"], params["h.bias"], params["v.offset"]
    s2, u = np.exp(2.0 * params["v.log_sigma"]), np.exp(params["v.log_unit"])
    h, total = state["h"], 0.0
    for i, v in enumerate(state["v"]):
        z = (v - params["v.location"][i]) / u[i]
        total += (u[i] * z) ** 2 / (2 * s2[i]) - (z - mu[i]) * b[i]
        for j in range(len(h)):
            total -= (z - mu[i]) * w[i, j] * h[j]
    for j in range(len(h)):
        total -= c[j] * h[j]
    return total


def energy_gaussian_bernoulli_rbm(params, state):
    """E = sum_i (v_i - b_i)^2 / (2 s_i^2) - sum_j c_j h_j - sum_ij v_i W_ij h_j / s_i^2: Cho et al. (2011), eq. 3.

    The library's b and W are these over s^2, and it leaves out the constant sum_i b_i^2 / (2 s_i^2).
    """
    s2 = np.exp(2.0 * params["v.log_sigma"])
    b, w, c = params["v.bias"] * s2, params["v-h.weight"] * s2[:, None], params["h.bias"]
    v, h = state["v"], state["h"]
    total = 0.0
    for i in range(len(v)):
        total += (v[i] - b[i]) ** 2 / (2 * s2[i]) - b[i] ** 2 / (2 * s2[i])
    for j in range(len(h)):
        total -= c[j] * h[j]
    for i in range(len(v)):
        for j in range(len(h)):
            total -= v[i] * w[i, j] * h[j] / s2[i]
    return total


def energy_dbm(params, state):
    """E = -v'b - sum_l h_l'c_l - v'W_1 h1 - sum_l h_l'W_(l+1)h_(l+1): Salakhutdinov & Hinton (2009), eq. 9."""
    names = list(state)
    x = {n: list(state[n]) for n in names}
    for n in names:
        if f"{n}.offset" in params:
            x[n] = [value - mu for value, mu in zip(state[n], params[f"{n}.offset"], strict=True)]
    total = 0.0
    for n in names:
        for i in range(len(x[n])):
            total -= x[n][i] * params[f"{n}.bias"][i]
    for below, above in itertools.pairwise(names):
        w = params[f"{below}-{above}.weight"]
        for i in range(len(x[below])):
            for j in range(len(x[above])):
                total -= x[below][i] * w[i, j] * x[above][j]
    return total


def statistic(kind, x):
    """s(x) as a list: one-hot for a `(categorical, k)` layer, else the values."""
    if kind[0] == "categorical":
        return [float(value == state) for value in x for state in range(kind[1])]
    return list(x)


def energy_layers(kinds, pairs):
    """E = -sum_l [b_l (s_l - mu_l) + log m_l] - sum_(a,b) (s_a - mu_a) W_ab (s_b - mu_b), and a constant.

    Args:
        kinds: layer name -> "bernoulli", "spin", "poisson", "gaussian", ("binomial", trials) or ("categorical", k).
        pairs: the layers coupled.
    """

    def energy(params, state):
        s, total = {}, params.get("energy_offset", 0.0)
        for name, kind in kinds.items():
            raw = statistic(kind, state[name])
            mu = params.get(f"{name}.offset", np.zeros(len(raw)))
            s[name] = [raw[i] - mu[i] for i in range(len(raw))]
            for i in range(len(raw)):
                total -= params[f"{name}.bias"][i] * s[name][i]
            if kind[0] == "binomial":
                for i in range(len(raw)):
                    total -= np.log(math.comb(kind[1], int(raw[i])))
            if kind == "poisson":
                for i in range(len(raw)):
                    total += math.lgamma(raw[i] + 1)
            if kind == "gaussian":
                for i in range(len(raw)):
                    total += state[name][i] ** 2 / (2 * np.exp(2 * params[f"{name}.log_sigma"][i]))
        for a, b in pairs:
            w = params[f"{a}-{b}.weight"]
            for i in range(len(s[a])):
                for j in range(len(s[b])):
                    total -= s[a][i] * w[i, j] * s[b][j]
        return total

    return energy


def energy_third_order(params, state):
    """E = -sum_l b_l (s_l - mu_l) - sum (s_h - nu) W (s_v - mu) - sum_ijk W_ijk v_i x_j h_k, and x^2 / (2 sigma^2).

    The product of three layers is of the values themselves: Sejnowski (1986), eq. 4.
    """
    centered, total = {}, params.get("energy_offset", 0.0)
    for n in ("v", "x", "h"):
        mu = params.get(f"{n}.offset", np.zeros(len(state[n])))
        centered[n] = [state[n][i] - mu[i] for i in range(len(mu))]
        for i in range(len(mu)):
            total -= params[f"{n}.bias"][i] * centered[n][i]
            if f"{n}.log_sigma" in params:
                total += state[n][i] ** 2 / (2 * np.exp(2 * params[f"{n}.log_sigma"][i]))
    for i in range(len(state["v"])):
        for k in range(len(state["h"])):
            total -= centered["h"][k] * params["h-v.weight"][k, i] * centered["v"][i]
            for j in range(len(state["x"])):
                total -= params["v-x-h.weight"][i, j, k] * state["v"][i] * state["x"][j] * state["h"][k]
    return total


def energy_gated_rbm(params, state):
    """E = -v'b - x'a - h'c - sum_ijk W_ijk v_i x_j h_k: Memisevic & Hinton (2007), eq. 1, with biases."""
    total = 0.0
    for n in ("v", "x", "h"):
        for i in range(len(state[n])):
            total -= params[f"{n}.bias"][i] * state[n][i]
    for i in range(len(state["v"])):
        for j in range(len(state["x"])):
            for k in range(len(state["h"])):
                total -= params["v-x-h.weight"][i, j, k] * state["v"][i] * state["x"][j] * state["h"][k]
    return total


def energy_discriminative_rbm(params, state):
    """E = -v'b - y'd - h'c - v'W h - y'U h with y one-hot, less offsets: Larochelle & Bengio (2008), eq. 1."""
    y = [float(state["y"][0] == k) for k in range(len(params["y.bias"]))]
    s, total = {"v": list(state["v"]), "y": y, "h": list(state["h"])}, 0.0
    for n in s:
        s[n] = [s[n][i] - params[f"{n}.offset"][i] for i in range(len(s[n]))]
        for i in range(len(s[n])):
            total -= params[f"{n}.bias"][i] * s[n][i]
    for n in ("v", "y"):
        for i in range(len(s[n])):
            for j in range(len(s["h"])):
                total -= s[n][i] * params[f"{n}-h.weight"][i, j] * s["h"][j]
    return total


def energy_conditional_rbm(kinds):
    """E = -(v - mu)'b - (h - nu)'c - (v - mu)'W(h - nu) - v'A x - h'B x: Taylor et al. (2007), with statistics of v, h.

    Args:
        kinds: those of v and h, as `energy_layers` takes them.
    """
    without_x = energy_layers(kinds, [("v", "h")])

    def energy(params, state):
        total = without_x(params, state)
        for name, kind in kinds.items():
            s = statistic(kind, state[name])
            for i in range(len(s)):
                for k in range(len(state["x"])):
                    total -= s[i] * params[f"{name}-x.weight"][i, k] * state["x"][k]
        return total

    return energy


def energy_replicated_softmax(params, state):
    """E = -sum_jk W_jk h_j v_k - sum_k b_k v_k - D sum_j a_j h_j: Salakhutdinov & Hinton (2009), eq. 4.

    It is the energy of a sequence of words; the library's is that of its counts, less log D! / prod_k v_k!.
    """
    b, a, w, v, h = params["v.bias"], params["v-h.bias"], params["v-h.weight"], state["v"], state["h"]
    length, total = sum(v), 0.0
    for k in range(len(v)):
        total -= b[k] * v[k]
        for j in range(len(h)):
            total -= w[k, j] * h[j] * v[k]
    for j in range(len(h)):
        total -= length * a[j] * h[j]
    return total


def energy_convolution(params, state):
    """E = -b sum v - sum_k c_k sum_ij h^k_ij - sum_k,ij,rs h^k_ij W^k_rs v_(i+r, j+s): Lee et al. (2009), eq. 1.

    An image of three rows and two columns, square filters of side two; one bias a map and one for the image.
    """
    mu = params.get("v.offset", np.zeros(6))
    v, h = np.reshape([state["v"][i] - mu[i] for i in range(6)], (3, 2)), np.reshape(state["h"], (2, 2, 1))
    total = -params["v.bias"][0] * v.sum()
    for k in range(2):
        for i in range(2):
            total -= params["h.bias"][k] * h[k, i, 0]
            for r in range(2):
                for s in range(2):
                    total -= h[k, i, 0] * params["v-h.weight"][k, 0, r, s] * v[i + r, s]
    return total


def pooled_maps(h, maps, pool):
    """Units h[k][i][j] of blocks numbered map by map and row by row: 0 is all off, n the n-th unit, row by row."""
    filters, rows, columns = maps
    on = np.zeros(maps)
    for k in range(filters):
        for i in range(rows):
            for j in range(columns):
                block = (k * (rows // pool) + i // pool) * (columns // pool) + j // pool
                on[k, i, j] = h[block] == 1 + (i % pool) * pool + j % pool
    return on


def energy_convolutional_rbm(image, pool):
    """E = -sum_k,ij h^k_ij [sum_c,rs W^(k,c)_rs v^c_(i+r,j+s) + b_k] - sum_c c_c sum_ij v^c_ij: Lee et al., eq. 1.

    By their section 3.3 at most one unit of each block of pool x pool is on. Real pixels have v^2 / (2 sigma^2).
    """

    def energy(params, state):
        w, b, c = params["v-h.weight"], params["h.bias"], params["v.bias"]
        v, side = np.reshape(state["v"], image), w.shape[2]
        maps = (w.shape[0], image[1] - side + 1, image[2] - side + 1)
        h, total = pooled_maps(state["h"], maps, pool), 0.0
        for channel in range(image[0]):
            total -= c[channel] * v[channel].sum()
        for k, i, j in np.argwhere(h):
            total -= b[k]
            for channel in range(image[0]):
                for r in range(side):
                    for s in range(side):
                        total -= w[k, channel, r, s] * v[channel, i + r, j + s]
        for i in range(len(params.get("v.log_sigma", ()))):
            total += state["v"][i] ** 2 / (2 * np.exp(2 * params["v.log_sigma"][i]))
        return total

    return energy


def energy_sparse(edges):
    """E = -sum_l b_l (s_l - mu_l) - sum_e w_e (v_i(e) - mu_i(e)) (h_j(e) - nu_j(e)) over the edges e = (i, j)."""

    def energy(params, state):
        total, s = 0.0, {}
        for n in ("v", "h"):
            mu = params.get(f"{n}.offset", np.zeros(len(state[n])))
            s[n] = [state[n][i] - mu[i] for i in range(len(mu))]
            for i in range(len(mu)):
                total -= params[f"{n}.bias"][i] * s[n][i]
        for e, (i, j) in enumerate(edges):
            total -= params["v-h.weight"][e] * s["v"][i] * s["h"][j]
        return total

    return energy


# --- brute force


class Oracle:
    """Everything that an energy implies, by enumeration and Gaussian integrals.

    Args:
        energy: `(params, state)` -> number.
        params: flat dict of float64 arrays.
        blocks: block name -> (number of units, the values of a unit, or None for real units).
    """

    def __init__(self, energy, params, blocks):
        self._energy, self.blocks = energy, blocks
        self.params = {k: np.asarray(v, float) for k, v in params.items()}

    def energy(self, state):
        """E of one state."""
        return self._energy(self.params, state)

    def energies(self, states):
        """E of each row of a batch of states."""
        rows = len(next(iter(states.values())))
        return np.array([self.energy({n: x[r] for n, x in states.items()}) for r in range(rows)])

    def states(self, names):
        """All joint values of discrete blocks: name -> (count, units)."""
        sizes = [self.blocks[n][0] for n in names]
        units = [self.blocks[n][1] for n in names for _ in range(self.blocks[n][0])]
        rows = list(itertools.product(*units))
        table = np.array(rows, float).reshape(len(rows), sum(sizes))
        return dict(zip(names, np.split(table, np.cumsum(sizes)[:-1], axis=1), strict=True))

    def discrete(self, names):
        """Those of the blocks that have finitely many values."""
        return [n for n in names if self.blocks[n][1] is not None]

    def gaussian(self, state, names):
        """(precision, linear term, constant) of E as a function of real blocks: E = x'Px/2 - k'x + c, read off E."""
        sizes = [self.blocks[n][0] for n in names]
        d = sum(sizes)

        def at(x):
            return self.energy({**state, **dict(zip(names, np.split(x, np.cumsum(sizes)[:-1]), strict=True))})

        unit, c = np.eye(d), at(np.zeros(d))
        up, down = np.array([at(e) for e in unit]) - c, np.array([at(-e) for e in unit]) - c
        precision, k = np.diag(up + down), 0.5 * (down - up)
        for i in range(d):
            for j in range(i):
                precision[i, j] = precision[j, i] = at(unit[i] + unit[j]) - c - up[i] - up[j]
        return precision, k, c

    def log_sum(self, state, names):
        """log of the sum (integral) of exp(-E) over the blocks `names`, the others as in `state`."""
        discrete = self.discrete(names)
        real = [n for n in names if n not in discrete]
        table = self.states(discrete) if discrete else {}
        rows = len(next(iter(table.values()))) if discrete else 1
        terms = []
        for r in range(rows):
            full = {**state, **{n: x[r] for n, x in table.items()}}
            full = {n: full.get(n) for n in self.blocks}  # the blocks in their order
            if not real:
                terms.append(-self.energy(full))
                continue
            precision, k, c = self.gaussian(full, real)
            if not np.linalg.eigvalsh(precision)[0] > 0:
                raise ValueError("the integral is infinite")
            half = 0.5 * k @ np.linalg.solve(precision, k) - 0.5 * np.linalg.slogdet(precision)[1]
            terms.append(half + 0.5 * len(k) * np.log(2 * np.pi) - c)
        return logsumexp(terms)

    @cached_property
    def log_z(self):
        """log Z."""
        return self.log_sum({}, list(self.blocks))

    def free_energy(self, state):
        """-log sum of exp(-E) over all blocks that are not in `state`."""
        return -self.log_sum(state, [n for n in self.blocks if n not in state])

    def free_energies(self, states):
        """`free_energy` of each row; a number where nothing is kept."""
        if not states:
            return np.asarray(self.free_energy({}))
        rows = len(next(iter(states.values())))
        return np.array([self.free_energy({n: x[r] for n, x in states.items()}) for r in range(rows)])

    def law(self, names):
        """(states, probabilities) of discrete blocks, all others summed out."""
        states = self.states(names)
        return states, np.exp(-self.free_energies(states) - self.log_z)

    def conditional(self, block, state):
        """(values, probabilities) of a discrete block given all others, or (mean, covariance) of a real one."""
        if self.blocks[block][1] is None:
            precision, k, _ = self.gaussian({**state, block: None}, [block])
            return np.linalg.solve(precision, k), np.linalg.inv(precision)
        values = self.states([block])[block]
        log_f = np.array([-self.energy({**state, block: x}) for x in values])
        return values, np.exp(log_f - logsumexp(log_f))

    def gradient(self, states, weights):
        """sum_r weights_r dE/d theta at each row, by a complex step: flat dict of arrays."""
        rows = [({n: x[r] for n, x in states.items()}, w) for r, w in enumerate(weights) if w]
        out = {}
        for name, value in self.params.items():
            if name.endswith(".offset") or name == "energy_offset":
                continue
            out[name] = np.zeros(value.shape)
            for at in np.ndindex(value.shape):
                step = value.astype(complex)
                step[at] += 1e-30j
                params = {**self.params, name: step}
                out[name][at] = sum(w * np.imag(self._energy(params, state)) for state, w in rows) / 1e-30
        return out

    def log_likelihood(self, x, visible):
        """Mean over the rows of log p(x)."""
        return float(np.mean([-self.free_energy({visible: row}) for row in x]) - self.log_z)

    def posterior(self, state):
        """(full states, probabilities) of the blocks that are not in `state`, which are discrete."""
        if state.keys() >= self.blocks.keys():
            return {n: np.asarray(state[n])[None] for n in self.blocks}, np.ones(1)
        out = self.states([n for n in self.blocks if n not in state])
        rows = len(next(iter(out.values())))
        full = {n: out[n] if n in out else np.tile(state[n], (rows, 1)) for n in self.blocks}
        log_f = -self.energies(full)
        return full, np.exp(log_f - logsumexp(log_f))

    def expected_gradient(self, state):
        """E[-dE/d theta | some blocks]."""
        full, p = self.posterior(state)
        return {k: -g for k, g in self.gradient(full, p).items()}

    @cached_property
    def model_gradient(self):
        """E[-dE/d theta] = d log Z/d theta, all blocks discrete."""
        states = self.states(list(self.blocks))
        return {k: -g for k, g in self.gradient(states, np.exp(-self.energies(states) - self.log_z)).items()}

    def likelihood_gradient(self, x, visible):
        """Gradient of the mean log-likelihood of the rows of x: the data's mean of -dE less the model's."""
        rows = [self.expected_gradient({visible: row}) for row in x]
        return {k: np.mean([row[k] for row in rows], axis=0) - g for k, g in self.model_gradient.items()}

    def factorized(self, q, state):
        """Probabilities of the states of `posterior(state)` under a product over units: block -> (units, values)."""
        full, _ = self.posterior(state)
        out = np.ones(len(next(iter(full.values()))))
        for name, law in q.items():
            values = list(self.blocks[name][1])
            for r, row in enumerate(full[name]):
                for i, value in enumerate(row):
                    out[r] *= law[i, values.index(value)]
        return out

    def mean_field_kl(self, q, state):
        """KL(q || p(other blocks | state)) for q a product over units."""
        _, p = self.posterior(state)
        q = self.factorized(q, state)
        return float(np.sum(q * (np.log(q) - np.log(p))))
