"""The networks of several folds as one."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from custom_networks.networks.two_stage import MeanEnsemble, TwoStagePocketNet

Network = TypeVar("Network", bound=nn.Module)


def ensemble_of(network: Network, folds: int) -> MeanEnsemble | Network:
    """Copies of a network, one per fold, whose softmax is averaged; `load_ensemble` gives them their weights.

    Args:
        network: of one fold; of a `TwoStagePocketNet` each stage is averaged by itself, so that the organ that stage 2
            sees is that of all folds.
        folds: number of copies.

    Returns:
        An ensemble of the network, or a network of two ensembles.
    """
    if isinstance(network, TwoStagePocketNet):
        both = copy.deepcopy(network)
        both.organ, both.tumor = _mean(network.organ, folds), _mean(network.tumor, folds)
        return both
    return _mean(network, folds)


def _mean(network: nn.Module, folds: int) -> MeanEnsemble:
    return MeanEnsemble([copy.deepcopy(network) for _ in range(folds)])
