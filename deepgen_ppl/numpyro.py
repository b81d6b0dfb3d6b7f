"""The NumPyro face: every public name of the library on the JAX engine.

>>> import deepgen_ppl.numpyro as dg
>>> rbm = dg.RBM.init(visible=6, hidden=3, rng=0)
>>> rbm
RBM(v: Bernoulli(6), h: Bernoulli(3); v-h, centered; float32)
"""

from __future__ import annotations

from deepgen_ppl.diagnostics.arviz import to_arviz
from deepgen_ppl.diagnostics.elpd import to_elpd
from deepgen_ppl.directed.bayesian_regression import BayesianRegression as _BayesianRegression
from deepgen_ppl.directed.dlgm import DLGM as _DLGM
from deepgen_ppl.directed.pair import Pair as _Pair
from deepgen_ppl.directed.ppca import PPCA as _PPCA
from deepgen_ppl.directed.program import Program as _Program
from deepgen_ppl.directed.real_nvp import RealNVP as _RealNVP
from deepgen_ppl.directed.sigmoid_belief_net import SigmoidBeliefNet as _SigmoidBeliefNet
from deepgen_ppl.directed.vae import VAE as _VAE
from deepgen_ppl.energies.convolution import Convolution
from deepgen_ppl.energies.energy import Block
from deepgen_ppl.energies.independent_blocks import IndependentBlocks as _IndependentBlocks
from deepgen_ppl.energies.machine import BoltzmannMachine as _BoltzmannMachine
from deepgen_ppl.energies.mean_field import MeanField
from deepgen_ppl.energies.own_energy import OwnEnergy as _OwnEnergy
from deepgen_ppl.energies.replicated import Replicated
from deepgen_ppl.energies.sparse import Sparse
from deepgen_ppl.energies.terms import Bias, Dense, NoBias, SharedBias, Term, ThirdOrder
from deepgen_ppl.hosts.on_numpyro import ENGINE as _ENGINE
from deepgen_ppl.hosts.on_numpyro import HostObjective as _HostObjective
from deepgen_ppl.hosts.on_numpyro import ProgramBase as _ProgramBase
from deepgen_ppl.kernels.block_gibbs import BlockGibbs
from deepgen_ppl.kernels.hmc import HMC
from deepgen_ppl.kernels.kernel import Kernel
from deepgen_ppl.kernels.parallel_tempering import ParallelTempering
from deepgen_ppl.log_p.bounds import Bounds, BoundsOptions, bounds
from deepgen_ppl.log_p.compare import Comparison, compare
from deepgen_ppl.log_p.metric import bounds_metric
from deepgen_ppl.log_z.ais import ais
from deepgen_ppl.log_z.estimates import Contrastive, LogNormalizer
from deepgen_ppl.log_z.exact import exact_log_normalizer
from deepgen_ppl.methods.nuts import NUTS
from deepgen_ppl.model_files import loader as _loader
from deepgen_ppl.model_files import save
from deepgen_ppl.objectives.contrastive import StochasticML
from deepgen_ppl.objectives.contrastive_divergence import ContrastiveDivergence
from deepgen_ppl.objectives.elbo import ELBO as _ELBO
from deepgen_ppl.objectives.iwae import IWAE as _IWAE
from deepgen_ppl.objectives.reweighted_wake_sleep import ReweightedWakeSleep as _ReweightedWakeSleep
from deepgen_ppl.objectives.rloo import RLOO as _RLOO
from deepgen_ppl.objectives.vimco import VIMCO as _VIMCO
from deepgen_ppl.objectives.wake_sleep import WakeSleep as _WakeSleep
from deepgen_ppl.training.fit import Fit, Validation, fit
from deepgen_ppl.training.posterior import Posterior
from deepgen_ppl.undirected.conditional_rbm import ConditionalRBM as _ConditionalRBM
from deepgen_ppl.undirected.convolutional_rbm import ConvolutionalRBM as _ConvolutionalRBM
from deepgen_ppl.undirected.dbm import DBM as _DBM
from deepgen_ppl.undirected.discriminative_rbm import DiscriminativeRBM as _DiscriminativeRBM
from deepgen_ppl.undirected.gated_rbm import GatedRBM as _GatedRBM
from deepgen_ppl.undirected.rbm import RBM as _RBM
from deepgen_ppl.undirected.rbm import GaussianBernoulliRBM as _GaussianBernoulliRBM
from deepgen_ppl.undirected.replicated_softmax import ReplicatedSoftmax as _ReplicatedSoftmax
from deepgen_ppl.units.at_most_one import AtMostOne
from deepgen_ppl.units.base import Unit
from deepgen_ppl.units.bernoulli import Bernoulli
from deepgen_ppl.units.binomial import Binomial
from deepgen_ppl.units.categorical import Categorical
from deepgen_ppl.units.gaussian import Gaussian
from deepgen_ppl.units.given import Given
from deepgen_ppl.units.multinomial import Multinomial
from deepgen_ppl.units.poisson import Poisson
from deepgen_ppl.units.spin import Spin

__all__ = [
    "AtMostOne",
    "BayesianRegression",
    "Bernoulli",
    "Bias",
    "Binomial",
    "Block",
    "BlockGibbs",
    "BoltzmannMachine",
    "Bounds",
    "BoundsOptions",
    "Categorical",
    "Comparison",
    "Contrastive",
    "ConditionalRBM",
    "ContrastiveDivergence",
    "Convolution",
    "ConvolutionalRBM",
    "DBM",
    "DLGM",
    "Dense",
    "DiscriminativeRBM",
    "ELBO",
    "Energy",
    "Fit",
    "GatedRBM",
    "Gaussian",
    "GaussianBernoulliRBM",
    "Given",
    "HMC",
    "IWAE",
    "IndependentBlocks",
    "Kernel",
    "LogNormalizer",
    "MeanField",
    "Multinomial",
    "NUTS",
    "NoBias",
    "PPCA",
    "Pair",
    "ParallelTempering",
    "Poisson",
    "Posterior",
    "Program",
    "RBM",
    "RLOO",
    "RealNVP",
    "Replicated",
    "ReplicatedSoftmax",
    "ReweightedWakeSleep",
    "SharedBias",
    "SigmoidBeliefNet",
    "Sparse",
    "Spin",
    "StochasticML",
    "Term",
    "ThirdOrder",
    "Unit",
    "VAE",
    "VIMCO",
    "Validation",
    "WakeSleep",
    "adam",
    "ais",
    "bounds",
    "bounds_metric",
    "compare",
    "engine",
    "exact_log_normalizer",
    "fit",
    "load",
    "save",
    "sgd",
    "to_arviz",
    "to_elpd",
]

engine = _ENGINE


class Energy(_OwnEnergy, _ProgramBase, engine=_ENGINE): ...


class IndependentBlocks(_IndependentBlocks, _ProgramBase, engine=_ENGINE): ...


class BoltzmannMachine(_BoltzmannMachine, engine=_ENGINE): ...


class RBM(_RBM, engine=_ENGINE): ...


class GaussianBernoulliRBM(_GaussianBernoulliRBM, engine=_ENGINE): ...


class DBM(_DBM, engine=_ENGINE): ...


class ConvolutionalRBM(_ConvolutionalRBM, engine=_ENGINE): ...


class ConditionalRBM(_ConditionalRBM, engine=_ENGINE): ...


class DiscriminativeRBM(_DiscriminativeRBM, engine=_ENGINE): ...


class GatedRBM(_GatedRBM, engine=_ENGINE): ...


class ReplicatedSoftmax(_ReplicatedSoftmax, engine=_ENGINE): ...


class Program(_Program, _ProgramBase, engine=_ENGINE): ...


class BayesianRegression(_BayesianRegression, _ProgramBase, engine=_ENGINE): ...


class DLGM(_DLGM, _ProgramBase, engine=_ENGINE): ...


class Pair(_Pair, _ProgramBase, engine=_ENGINE): ...


class PPCA(_PPCA, _ProgramBase, engine=_ENGINE): ...


class RealNVP(_RealNVP, _ProgramBase, engine=_ENGINE): ...


class SigmoidBeliefNet(_SigmoidBeliefNet, _ProgramBase, engine=_ENGINE): ...


class VAE(_VAE, _ProgramBase, engine=_ENGINE): ...


class ELBO(_ELBO, _HostObjective, engine=_ENGINE): ...


class IWAE(_IWAE, _HostObjective, engine=_ENGINE): ...


class ReweightedWakeSleep(_ReweightedWakeSleep, _HostObjective, engine=_ENGINE): ...


class RLOO(_RLOO, _HostObjective, engine=_ENGINE): ...


class VIMCO(_VIMCO, _HostObjective, engine=_ENGINE): ...


class WakeSleep(_WakeSleep, _HostObjective, engine=_ENGINE): ...


load = _loader(_ENGINE)
adam, sgd = _ENGINE.host.optimizers["adam"], _ENGINE.host.optimizers["sgd"]
del annotations  # of `__future__`: what is left without an underscore is public
