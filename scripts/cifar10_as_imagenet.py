"""CIFAR-10 with the mean and the deviation of ImageNet, as the public ResNet-20 was trained on it.

ann2snn convert resnet20 --ann_weight resnet20-12fca82f.th --dataset scripts/cifar10_as_imagenet.py:loader
"""

from ann2snn_cli.data import load


def loader():
    """Both splits, and what the network is given of them."""
    data = load("cifar10")
    splits = {"train": (data.train.x, data.train.labels), "test": (data.test.x, data.test.labels)}
    return {**splits, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
