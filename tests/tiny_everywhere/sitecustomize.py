"""On PYTHONPATH: every process of the command line knows the network "tiny", its children too."""

from tiny_training import DROPPING

from resnet_keras import architectures

architectures.NETWORKS["tiny"] = DROPPING
