"""Small networks with the structures that the tracer must follow."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F


def sequence(*layers):
    return nn.Sequential(*layers)


def vgg16(norm=False, activation=nn.ReLU):
    """VGG-16 in thin: thirteen convolutions in five stages, adaptive pooling, three linear layers with dropout."""
    layers, channels = [], 3
    for width in (6, 6, 0, 7, 7, 0, 8, 8, 8, 0, 9, 9, 9, 0, 9, 9, 9, 0):
        if not width:
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        layers += [nn.BatchNorm2d(width)] if norm else []
        layers.append(activation(inplace=True) if activation is nn.ReLU else activation())
        channels = width
    head = [nn.AdaptiveAvgPool2d((2, 2)), nn.Flatten(), nn.Linear(36, 12), activation(), nn.Dropout()]
    return sequence(*layers, *head, nn.Linear(12, 11), activation(), nn.Dropout(), nn.Linear(11, 5))


class BasicBlock(nn.Module):
    def __init__(self, before, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride > 1 or before != width:
            self.downsample = sequence(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.downsample is None else self.downsample(x)
        return self.relu(out)


class ResNet18(nn.Module):
    """ResNet-18 as torchvision has it, with widths 6, 8, 10, 12."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        blocks, before = [], 6
        for width, stride in ((6, 1), (8, 2), (10, 2), (12, 2)):
            blocks.append(sequence(BasicBlock(before, width, stride), BasicBlock(width, width, 1)))
            before = width
        self.layer1, self.layer2, self.layer3, self.layer4 = blocks
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Words(nn.Module):
    """Embedding, fixed or learned positions, pre-norm encoder layers of the library, head."""

    def __init__(self, fixed):
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        table = torch.arange(40.0).reshape(5, 8).sin()
        if fixed:
            self.register_buffer("positions", table)
        else:
            self.positions = nn.Parameter(table)
        layer = nn.TransformerEncoderLayer(8, 2, 10, batch_first=True, norm_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 7)

    def forward(self, words):
        return self.head(self.encoder(self.embedding(words) * math.sqrt(8) + self.positions))


class Tied(nn.Module):
    """One matrix embeds the words and scores them."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.up, self.down = nn.Linear(8, 6), nn.Linear(6, 8)
        self.head = nn.Linear(8, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, words):
        x = self.embedding(words)
        return self.head(x + self.down(F.gelu(self.up(x))))


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class Rotary(nn.Module):
    """A decoder layer with RMS norms, rotary positions, keys shared by heads, and a gated map."""

    def __init__(self, keys=4):
        super().__init__()
        self.keys = keys
        self.embedding = nn.Embedding(7, 16)
        self.norm1, self.norm2 = RMSNorm(16), nn.RMSNorm(16)
        self.q = nn.Linear(16, 16, bias=False)
        self.k, self.v = (nn.Linear(16, 4 * keys, bias=False) for _ in range(2))
        self.out = nn.Linear(16, 16, bias=False)
        self.gate, self.up = (nn.Linear(16, 10, bias=False) for _ in range(2))
        self.down = nn.Linear(10, 16, bias=False)
        self.head = nn.Linear(16, 7, bias=False)

    def forward(self, words):
        x = self.embedding(words)
        n, T, _ = x.shape
        y = self.norm1(x)
        q, k, v = (p(y).view(n, T, -1, 4).transpose(1, 2) for p in (self.q, self.k, self.v))
        angle = torch.arange(T)[:, None] * torch.tensor([1.0, 0.1, 1.0, 0.1])

        def turn(t):
            return t * angle.cos().to(x) + torch.cat([-t[..., 2:], t[..., :2]], -1) * angle.sin().to(x)

        k, v = (t.repeat_interleave(4 // self.keys, 1) for t in (turn(k), v))
        mixed = F.scaled_dot_product_attention(turn(q), k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, T, -1))
        y = self.norm2(x)
        return self.head(x + self.down(F.silu(self.gate(y)) * self.up(y)))


class Vision(nn.Module):
    """A vision transformer with a class token and learned positions."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.positions = nn.Parameter(torch.randn(1, 17, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 10, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.layer(x))[:, 0])


class Mixer(nn.Module):
    """Maps over positions, then over channels."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.norm1, self.norm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.tokens1, self.tokens2 = nn.Linear(16, 6), nn.Linear(6, 16)
        self.channels1, self.channels2 = nn.Linear(8, 10), nn.Linear(10, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.tokens2(F.gelu(self.tokens1(self.norm1(x).transpose(1, 2)))).transpose(1, 2)
        x = x + self.channels2(F.gelu(self.channels1(self.norm2(x))))
        return self.head(x.mean(1))


class Dense(nn.Module):
    """Concatenates images, channels and channels, one branch not zero at zero."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(7, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(12)
        self.third = nn.Conv2d(12, 6, 1)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = torch.cat([x, self.first(x).relu()], 1)
        x = torch.cat([x, self.second(x).tanh()], 1)
        return self.head(self.third(self.norm(x)).relu().mean((2, 3)))


class Squeeze(nn.Module):
    """Channels gated by a function of all of them."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.conv(x).relu()
        gate = torch.sigmoid(self.up(self.down(F.adaptive_avg_pool2d(x, 1)).relu()))
        return self.head((x * gate).mean((2, 3)))


class UNet(nn.Module):
    """Down, up by a transposed convolution, and across."""

    def __init__(self):
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 5, 2, 2)
        self.across, self.out = nn.Conv2d(11, 7, 3, padding=1), nn.Conv2d(7, 2, 1)

    def forward(self, x):
        first = self.down1(x).relu()
        second = self.up(self.down2(F.max_pool2d(first, 2)).relu())
        return self.out(self.across(torch.cat([first, second], 1)).relu())


class Padded(nn.Module):
    """A shortcut without parameters: every second pixel, zeros for the channels that are new."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 8, 3, 2, 1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        shortcut = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head((self.bn2(self.conv2(x)) + shortcut).relu().mean((2, 3)))


class ConvNext(nn.Module):
    """A depthwise convolution, layer norm over channels, a scale for each channel of the branch."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.depthwise = nn.Conv2d(8, 8, 7, padding=3, groups=8)
        self.norm = nn.LayerNorm(8)
        self.up, self.down = nn.Linear(8, 12), nn.Linear(12, 8)
        self.scale = nn.Parameter(torch.ones(8))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.down(F.gelu(self.up(y)))
        return self.head((x + y.permute(0, 3, 1, 2)).mean((-2, -1)))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cells = kind(3, 6, 2, batch_first=True)
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.cells(x)[0][:, -1])


class Maxout(nn.Module):
    def __init__(self):
        super().__init__()
        self.pieces, self.head = nn.Linear(3, 12), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.pieces(x).view(-1, 4, 3).amax(-1))


class Cumulative(nn.Module):
    """Has an operation that depends on the order of its units."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, x):
        return self.second(self.first(x).cumsum(1))


class Undecided(nn.Module):
    """Looks at values to decide what to do."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 4)

    def forward(self, x):
        x = self.inner(x)
        return x if x.sum() > 0 else -x


def repeated():
    """One layer used twice, so that a unit owns a row and a column of one matrix."""
    layer = nn.Linear(6, 6)
    return sequence(nn.Linear(3, 6), layer, nn.Tanh(), layer, nn.Tanh(), nn.Linear(6, 2))


def mobile():
    return sequence(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        nn.Conv2d(8, 6, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def grouped(shuffle=False):
    middle = [nn.ChannelShuffle(2)] if shuffle else []
    return sequence(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, groups=2),
        *middle,
        nn.ReLU(),
        nn.Conv2d(12, 6, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def group_norm():
    return sequence(
        nn.Conv2d(3, 8, 3),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 1),
        nn.GroupNorm(1, 6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 3),
    )


def weight_norm():
    wrapped = nn.utils.parametrizations.weight_norm
    return sequence(wrapped(nn.Linear(3, 6)), nn.Tanh(), wrapped(nn.Linear(6, 5)), nn.Tanh(), nn.Linear(5, 2))


IMAGES, WORDS, VECTORS, SEQUENCES = (3, 32, 32), "words", (3,), (5, 3)

NETS = {
    "vgg16": (vgg16, IMAGES),
    "vgg16-bn": (lambda: vgg16(norm=True), IMAGES),
    "vgg16-bn-gelu": (lambda: vgg16(norm=True, activation=nn.GELU), IMAGES),
    "resnet18": (ResNet18, IMAGES),
    "words": (lambda: Words(fixed=False), WORDS),
    "words-fixed": (lambda: Words(fixed=True), WORDS),
    "tied": (Tied, WORDS),
    "rotary": (Rotary, WORDS),
    "rotary-shared-keys": (lambda: Rotary(keys=2), WORDS),
    "vision": (Vision, IMAGES),
    "mixer": (Mixer, IMAGES),
    "dense": (Dense, IMAGES),
    "squeeze": (Squeeze, IMAGES),
    "unet": (UNet, (3, 8, 8)),
    "padded": (Padded, IMAGES),
    "convnext": (ConvNext, IMAGES),
    "lstm": (lambda: Recurrent(nn.LSTM), SEQUENCES),
    "gru": (lambda: Recurrent(nn.GRU), SEQUENCES),
    "rnn": (lambda: Recurrent(nn.RNN), SEQUENCES),
    "maxout": (Maxout, VECTORS),
    "repeated": (repeated, VECTORS),
    "mobile": (mobile, IMAGES),
    "grouped": (grouped, IMAGES),
    "shuffled": (lambda: grouped(shuffle=True), IMAGES),
    "group-norm": (group_norm, IMAGES),
    "weight-norm": (weight_norm, VECTORS),
    "sigmoid": (lambda: sequence(nn.Linear(3, 6), nn.Sigmoid(), nn.Linear(6, 2)), VECTORS),
    "prelu": (lambda: sequence(nn.Linear(3, 6), nn.PReLU(6), nn.Linear(6, 2)), VECTORS),
    "cumulative": (Cumulative, VECTORS),
}


def example(shape, n=6):
    """Inputs of a network, float64."""
    draw = torch.Generator().manual_seed(3)
    if shape == WORDS:
        return torch.randint(0, 7, (n, 5), generator=draw)
    return torch.randn(n, *shape, generator=draw, dtype=torch.float64)


def unsettled(net, inputs):
    """A state of the network without accidental symmetry: no zeros, no equal numbers, statistics of its own."""
    draw = torch.Generator().manual_seed(4)

    def noise(x):
        return torch.rand(x.shape, generator=draw, dtype=torch.float64) - 0.5

    parameters = {id(x): x.detach() + 0.4 * noise(x) for x in net.parameters()}
    named = net.named_parameters(remove_duplicate=False)
    state = dict(net.state_dict()) | {name: parameters[id(x)] for name, x in named}
    held = copy.deepcopy(net).train()
    held.load_state_dict(state)
    norms = [part for part in held.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # so that signals reach the outputs
    with torch.no_grad(), torch.random.fork_rng():
        held(inputs)
    for norm in norms:
        norm.running_mean.add_(0.1 * noise(norm.running_mean))
        norm.running_var.mul_(1 + noise(norm.running_var))
    return held.state_dict()


def build(name):
    """Return a network in float64, evaluation mode, and inputs."""
    make, shape = NETS[name]
    inputs = example(shape)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make().double().eval()
    net.load_state_dict(unsettled(net, inputs))
    with torch.no_grad():
        out = net(inputs).flatten(1)
    assert (out - out[0]).abs().max() > 1e-4 * out.abs().max()
    return net, inputs
