import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from custom_networks import PocketNet
from custom_networks.networks.pocketnet import PocketBlock

ANISOTROPIC = {"kernel_sizes": [(3, 3, 1), (3, 3, 1), 3, 3], "strides": [(2, 2, 1), (2, 2, 1), 2]}


def test_same_features_at_every_level():
    network = PocketNet(features=8)
    widths = {block.conv2.parts[0].out_channels for block in [*network.encoder, *network.decoder]}
    assert widths == {8}
    doubling = PocketNet(features=[8, 16, 32, 64])
    assert [block.conv2.parts[0].out_channels for block in doubling.encoder] == [8, 16, 32, 64]


def test_parameter_count_of_the_shipped_network():
    # 7 blocks of two 3x3x3 convolutions at 32 features, 3 transposed convolutions, heads and norms; counted by hand
    conv, pair = 27 * 32 * 32, 27 * 64 * 32
    encoder = (27 * 32 + conv + 32) + 3 * (2 * conv + 32 * 32)
    decoder = 3 * (pair + conv + 64 * 32) + 3 * (8 * 32 * 32 + 32)
    norms, heads = 7 * 2 * 64, 3 * (32 * 2 + 2)
    assert sum(p.numel() for p in PocketNet(deep_supervision=2).parameters()) == encoder + decoder + norms + heads


@pytest.mark.parametrize("block", ["residual", "dense", "plain"])
@pytest.mark.parametrize("size", [(16, 16, 8), (17, 23, 5)])
def test_any_input_size_and_every_block(block, size):
    network = PocketNet(block=block, features=4, **ANISOTROPIC).eval()
    assert network(torch.randn(2, 1, *size)).shape == (2, 2, *size)


def joined(conv, *maps):
    """What a convolution of parts computes, as one convolution of their concatenation."""
    weight = torch.cat([part.weight for part in conv.parts], dim=1)
    stride, padding = conv.parts[0].stride, conv.parts[0].padding
    return functional.conv3d(torch.cat(maps, 1), weight, None, stride, padding)


@pytest.mark.parametrize("channels", [[3, 4], [4]])
@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 1)])
def test_blocks_are_those_of_the_paper(channels, stride):
    """Figure 2's dense block, the text's residual one, and the plain one, written out."""
    torch.manual_seed(0)
    arguments = (3, channels, 4, (3, 3, 3), stride)
    maps = [torch.randn(2, n, 6, 5, 4) for n in channels]
    for kind in ("dense", "residual", "plain"):
        block = PocketBlock(*arguments, kind, "instance", "relu")
        first = functional.relu(functional.instance_norm(joined(block.conv1, *maps)))
        if kind == "dense":
            # every layer is fed with the outputs of all before it, and a 1x1x1 convolution fuses them
            projected = joined(block.shortcut, *maps)
            second = functional.relu(functional.instance_norm(joined(block.conv2, projected, first)))
            expected = joined(block.fuse, projected, first, second)
        else:
            total = functional.instance_norm(joined(block.conv2, first))
            if kind == "residual":
                alike = channels == [4] and stride == (1, 1, 1)
                total = total + (maps[0] if alike else joined(block.shortcut, *maps))
            expected = functional.relu(total)
        torch.testing.assert_close(block([m.clone() for m in maps]), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", ["residual", "dense", "plain"])
@pytest.mark.parametrize("channels_last", [True, False])
def test_is_made_and_run_without_memory(block, channels_last):
    with FakeTensorMode():
        network = PocketNet(block=block, deep_supervision=2, channels_last=channels_last)
        assert network(torch.zeros(2, 1, 256, 256, 32))[0].shape == (2, 2, 256, 256, 32)


@pytest.mark.parametrize("training", [True, False])
def test_one_graph_under_torch_compile(training, graphs):
    network = PocketNet(features=2, levels=3, deep_supervision=1).train(training)
    assert graphs(network, torch.rand(1, 1, 9, 8, 8)) == 1


def test_two_dimensional():
    network = PocketNet(spatial_dims=2, in_channels=3, out_channels=4, features=4, levels=3).eval()
    assert network(torch.randn(1, 3, 30, 21)).shape == (1, 4, 30, 21)


def test_heads_while_training_one_tensor_in_eval():
    network = PocketNet(features=4, deep_supervision=2)
    heads = network(torch.randn(2, 1, 16, 16, 16))
    assert [tuple(h.shape[2:]) for h in heads] == [(16, 16, 16), (8, 8, 8), (4, 4, 4)]
    loss = DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True), weights=[4 / 7, 2 / 7, 1 / 7])
    loss(heads, torch.ones(2, 1, 16, 16, 16)).backward()
    assert all(p.grad is not None for p in network.parameters())
    assert network.eval()(torch.randn(1, 1, 16, 16, 16)).shape == (1, 2, 16, 16, 16)


def test_parts_convolution_is_the_convolution_of_the_concatenation():
    network = PocketNet(features=4)
    conv = network.decoder[0].conv1
    a, b = torch.randn(1, 4, 6, 6, 6), torch.randn(1, 4, 6, 6, 6)
    weight = torch.cat([part.weight for part in conv.parts], dim=1)
    torch.testing.assert_close(conv([a, b]), torch.nn.functional.conv3d(torch.cat([a, b], 1), weight, padding=1))


@pytest.mark.parametrize("options", [{}, ANISOTROPIC, {"block": "dense"}, {"norm": "instance", "act": "prelu"}])
def test_script_gives_the_same_result(options):
    network = PocketNet(features=4, deep_supervision=1, **options).eval()
    scripted = torch.jit.script(network)
    for size in ((16, 16, 8), (13, 18, 7)):
        x = torch.randn(1, 1, *size)
        torch.testing.assert_close(scripted(x), network(x))


def test_channels_last_changes_nothing_but_the_layout():
    torch.manual_seed(0)
    a = PocketNet(features=4).eval()
    b = PocketNet(features=4, channels_last=False).eval()
    b.load_state_dict(a.state_dict())
    x = torch.randn(1, 1, 16, 16, 8)
    torch.testing.assert_close(a(x), b(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "arguments",
    [
        {"block": "swin"},
        {"kernel_sizes": [3, 3]},
        {"kernel_sizes": [2, 3, 3, 3]},
        {"deep_supervision": 3},
        {"features": [4, 8]},
    ],
)
def test_arguments_that_do_not_fit(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        PocketNet(**arguments)
