"""IResNet in PyTorch, which the benchmarks compare with."""

from torch import nn

# Blocks of each stage.
UNITS = {"iresnet18": (2, 2, 2, 2), "iresnet50": (3, 4, 14, 3)}


def iresnet(units, features):
    """Returns an IResNet with the layers of insightface's.

    Args:
        units: Blocks of each of the four stages.
        features: Dimensions of the embedding.
    """

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.branch = nn.Sequential(
                nn.BatchNorm2d(inputs),
                nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.PReLU(outputs),
                nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )
            self.shortcut = nn.Identity()
            if stride > 1:
                self.shortcut = nn.Sequential(
                    nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                    nn.BatchNorm2d(outputs),
                )

        def forward(self, x):
            return self.branch(x) + self.shortcut(x)

    layers = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64)]
    inputs = 64
    for outputs, count in zip((64, 128, 256, 512), units, strict=True):
        for index in range(count):
            layers.append(Block(inputs, outputs, 2 if index == 0 else 1))
            inputs = outputs
    layers += [nn.BatchNorm2d(512), nn.Flatten(), nn.Linear(512 * 7 * 7, features)]
    return nn.Sequential(*layers, nn.BatchNorm1d(features))
