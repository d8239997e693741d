import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from custom_networks import MeanEnsemble, PocketNet, TwoStageInferer, TwoStagePocketNet


class Threshold(nn.Module):
    """Foreground where the first channel exceeds a value (and, if given a mask, whatever the mask says)."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = x[:, :1] - self.value
        return torch.cat([-score, score], dim=1)


def scene() -> torch.Tensor:
    """Organ at 1 with a tumour at 2 inside; an island of organ, and a larger tumour-bright blob outside the organ."""
    image = torch.zeros(1, 1, 32, 32, 16)
    image[..., 4:16, 4:16, 2:12] = 1
    image[..., 8:11, 8:11, 4:8] = 2
    image[..., 13:15, 13:15, 9:10] = 2  # a second, smaller tumour
    image[..., 22:28, 22:28, 2:10] = 2
    return image


def stages() -> TwoStagePocketNet:
    return TwoStagePocketNet(Threshold(0.5), Threshold(1.5)).eval()


@pytest.mark.parametrize("roi", [(32, 32, 16), (16, 16, 8)])
def test_containment_is_decided_on_the_cleaned_organ_of_the_whole_volume(roi):
    labels = TwoStageInferer(roi_size=roi, sw_batch_size=2, overlap=0.5)(scene(), stages()).argmax(1)[0]
    expected = torch.zeros(32, 32, 16, dtype=torch.long)
    expected[4:16, 4:16, 2:12] = 1
    expected[8:11, 8:11, 4:8] = 2
    assert torch.equal(labels, expected)


def test_without_containment_stage_two_is_shown_as_it_is():
    inferer = TwoStageInferer(roi_size=(32, 32, 16), contain=False)
    labels = inferer(scene(), stages()).argmax(1)[0]
    assert (labels[22:28, 22:28, 2:10] == 2).all()  # the largest tumour is the blob outside


class Organ(nn.Module):
    """Says tumour wherever the mask that it is given says organ."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        score = x[:, 1:2] - 0.5
        return torch.cat([-score, score], dim=1)


def test_the_tumour_network_sees_the_organ_that_it_is_given():
    network = TwoStagePocketNet(Threshold(0.5), Organ())
    given = torch.zeros_like(scene())
    given[..., 20:24, 4:8, 2:6] = 1  # where stage 1 would find nothing
    for mode in (True, False):
        scores = network.train(mode)(torch.cat([scene(), given], dim=1))
        assert torch.equal(scores.argmax(1, keepdim=True), given.long())
    # a whole image: the organ of stage 1, cleaned
    labels = TwoStageInferer(roi_size=(32, 32, 16), contain=False)(scene(), network.eval()).argmax(1)[0]
    expected = torch.zeros_like(labels)
    expected[4:16, 4:16, 2:12] = 2
    assert torch.equal(labels, expected)


def test_no_organ_no_tumour():
    result = TwoStageInferer(roi_size=(16, 16, 8))(torch.zeros(1, 1, 16, 16, 8), stages())
    assert result[:, 0].all()
    assert not result[:, 1:].any()


def test_diagonal_neighbours_are_connected():
    image = torch.zeros(1, 1, 8, 8, 8)
    for i in range(4):
        image[..., i, i, i] = 1
    image[..., 6:8, 6, 6] = 1
    labels = TwoStageInferer(roi_size=(8, 8, 8))(image, stages()).argmax(1)
    assert labels.sum() == 4


def test_affine_travels_and_wrappers_are_opened():
    image = MetaTensor(scene(), affine=torch.diag(torch.tensor([2.0, 2.0, 5.0, 1.0])))
    wrapper = nn.Module()
    wrapper.predictor = stages()
    result = TwoStageInferer(roi_size=(32, 32, 16))(image, wrapper)
    assert torch.equal(result.affine, image.affine)
    assert result.shape == (1, 3, 32, 32, 16)


def test_two_images_in_a_batch_are_cleaned_one_by_one():
    both = torch.cat([scene(), scene().flip(2)])
    one = TwoStageInferer(roi_size=(32, 32, 16))(scene(), stages())
    two = TwoStageInferer(roi_size=(32, 32, 16))(both, stages())
    assert torch.equal(two[0], one[0])
    assert torch.equal(two[1], one[0].flip(1))


def pockets() -> TwoStagePocketNet:
    return TwoStagePocketNet(PocketNet(features=2, levels=2), PocketNet(in_channels=2, features=2, levels=2))


def test_organ_and_tumour_at_fifty_five_percent_are_tumour():
    organ, tumor = (constant(0.55) for _ in range(2))
    network = TwoStagePocketNet(organ, tumor).eval()
    x = torch.zeros(1, 1, 4, 4, 4)
    assert (network(x).argmax(1) == 2).all()
    assert (TwoStageInferer(roi_size=(4, 4, 4))(x, network).argmax(1) == 2).all()


def constant(probability: float) -> nn.Module:
    """A network of one bias: the same foreground probability everywhere."""

    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            score = torch.full_like(x[:, :1], probability).logit() / 2
            return torch.cat([-score, score], dim=1)

    return Constant()


def random_stages() -> TwoStagePocketNet:
    """Two networks that find all three classes in noise."""
    torch.manual_seed(0)
    organ, tumor = (PocketNet(in_channels=n, features=4, levels=2, norm="instance") for n in (1, 2))
    for network in (organ, tumor):
        nn.init.normal_(network.head.weight)
    return TwoStagePocketNet(organ, tumor).eval()


def test_exported_network_gives_the_inferers_labels():
    network, x = random_stages(), torch.randn(2, 1, 16, 16, 8)
    with torch.no_grad(), torch.backends.mkldnn.flags(enabled=False):
        labels = TwoStageInferer(roi_size=(16, 16, 8), largest_component=False)(x, network).argmax(1)
        assert labels.unique().tolist() == [0, 1, 2]
        assert torch.equal(network(x).argmax(1), labels)
        assert torch.equal(torch.jit.script(network)(x).argmax(1), labels)


def test_scores_respect_the_organ():
    labels = stages()(scene()).argmax(1)[0]
    assert (labels[8:11, 8:11, 4:8] == 2).all()
    assert not (labels[0:4] > 0).any()


def test_training_touches_the_tumour_network_alone():
    network = pockets().train()
    assert not network.organ.training
    assert network.tumor.training
    before = {k: v.clone() for k, v in network.state_dict().items()}
    network(torch.randn(2, 2, 8, 8, 8)).sum().backward()
    torch.optim.SGD([p for p in network.parameters() if p.grad is not None], lr=1.0).step()
    changed = {k.split(".")[0] for k, v in network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"tumor"}


def test_script_and_flat_state_dict():
    network = pockets().eval()
    scripted = torch.jit.script(network)
    x = torch.randn(1, 1, 9, 8, 7)
    torch.testing.assert_close(scripted(x), network(x))
    inferer = TwoStageInferer(roi_size=(8, 8, 8))
    assert torch.equal(inferer(x, scripted), inferer(x, network))
    assert {k.split(".")[0] for k in network.state_dict()} == {"organ", "tumor"}


def test_one_graph_under_torch_compile(graphs):
    assert graphs(pockets().eval(), torch.rand(1, 1, 8, 8, 8)) == 1
    assert graphs(pockets().train(), torch.rand(1, 2, 8, 8, 8)) == 1
    assert (
        graphs(MeanEnsemble([PocketNet(features=2, levels=2) for _ in range(2)]).eval(), torch.rand(1, 1, 8, 8, 8)) == 1
    )


def test_ensemble_averages_the_softmax():
    folds = [PocketNet(features=2, levels=2).eval() for _ in range(3)]
    x = torch.randn(1, 1, 8, 8, 8)
    mean = torch.stack([torch.softmax(f(x), 1) for f in folds]).mean(0)
    ensemble = MeanEnsemble(folds).eval()
    torch.testing.assert_close(torch.softmax(ensemble(x), 1), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.jit.script(ensemble)(x), ensemble(x))
