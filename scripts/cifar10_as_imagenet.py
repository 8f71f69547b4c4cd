"""CIFAR-10 with the mean and the deviation of ImageNet, as the public ResNet-20 was trained on it.

ann2snn convert resnet20 --ann_weight resnet20-12fca82f.th --dataset scripts/cifar10_as_imagenet.py:loader
"""

from dataclasses import replace

import torch

from ann2snn_cli.data import load
from ann2snn_cli.data.samples import PartOfSplit


def loader():
    """CIFAR-10 as it is, but for what the network is given of it."""
    return replace(load("cifar10"), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def quarter():
    """The same with a quarter of the training images, for a short finetuning."""
    data = loader()
    return replace(data, train=PartOfSplit(data.train, torch.arange(0, data.train_size, 4)))
