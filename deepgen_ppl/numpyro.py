"""The NumPyro face: every public name of the library on the JAX engine.

>>> import deepgen_ppl.numpyro as dg
>>> rbm = dg.RBM.init(rng=0, visible=6, hidden=3)
>>> rbm
RBM(v: Bernoulli(6), h: Bernoulli(3); v-h, centred; float32)
"""

from __future__ import annotations

from deepgen_ppl.diagnostics.arviz import to_arviz
from deepgen_ppl.diagnostics.elpd import to_elpd
from deepgen_ppl.directed import program, vae
from deepgen_ppl.engines.numpyro import ENGINE, HostObjective, ProgramBase
from deepgen_ppl.evidence.ais import ais
from deepgen_ppl.evidence.compare import Comparison, compare
from deepgen_ppl.evidence.estimates import Contrastive, LogNormalizer
from deepgen_ppl.evidence.evidence import Evidence, EvidenceOptions, evidence
from deepgen_ppl.evidence.exact import exact_log_normalizer
from deepgen_ppl.kernels.base import Kernel
from deepgen_ppl.kernels.block_gibbs import BlockGibbs
from deepgen_ppl.learning import objectives
from deepgen_ppl.learning.contrastive import ContrastiveDivergence, StochasticML
from deepgen_ppl.learning.fit import Fit, Validation, fit
from deepgen_ppl.saving import loader, save
from deepgen_ppl.undirected import dbm, energy, machine, rbm
from deepgen_ppl.undirected.couplings import Coupling, Dense
from deepgen_ppl.undirected.energy import Block
from deepgen_ppl.undirected.mean_field import MeanField
from deepgen_ppl.undirected.unit import Unit
from deepgen_ppl.undirected.units import Bernoulli, Categorical, Gaussian, Spin

__all__ = [
    "BlockGibbs",
    "Bernoulli",
    "Block",
    "BoltzmannMachine",
    "Categorical",
    "Comparison",
    "Contrastive",
    "ContrastiveDivergence",
    "Coupling",
    "DBM",
    "Dense",
    "ELBO",
    "Energy",
    "Evidence",
    "EvidenceOptions",
    "Fit",
    "Gaussian",
    "GaussianBernoulliRBM",
    "IWAE",
    "Kernel",
    "LogNormalizer",
    "MeanField",
    "Program",
    "RBM",
    "Spin",
    "StochasticML",
    "Unit",
    "VAE",
    "Validation",
    "adam",
    "ais",
    "compare",
    "engine",
    "evidence",
    "exact_log_normalizer",
    "fit",
    "load",
    "save",
    "sgd",
    "to_arviz",
    "to_elpd",
]

engine = ENGINE


class Energy(energy.Energy, engine=ENGINE):
    __doc__ = energy.Energy.__doc__


class BoltzmannMachine(machine.BoltzmannMachine, engine=ENGINE):
    __doc__ = machine.BoltzmannMachine.__doc__


class RBM(rbm.RBM, engine=ENGINE):
    __doc__ = rbm.RBM.__doc__


class GaussianBernoulliRBM(rbm.GaussianBernoulliRBM, engine=ENGINE):
    __doc__ = rbm.GaussianBernoulliRBM.__doc__


class DBM(dbm.DBM, engine=ENGINE):
    __doc__ = dbm.DBM.__doc__


class Program(program.Program, ProgramBase, engine=ENGINE):
    __doc__ = program.Program.__doc__


class VAE(vae.VAE, ProgramBase, engine=ENGINE):
    __doc__ = vae.VAE.__doc__


class ELBO(objectives.ELBO, HostObjective, engine=ENGINE):
    __doc__ = objectives.ELBO.__doc__


class IWAE(objectives.IWAE, HostObjective, engine=ENGINE):
    __doc__ = objectives.IWAE.__doc__


load = loader(BoltzmannMachine, RBM, GaussianBernoulliRBM, DBM, VAE)
adam, sgd = ENGINE.host.optimizers["adam"], ENGINE.host.optimizers["sgd"]
