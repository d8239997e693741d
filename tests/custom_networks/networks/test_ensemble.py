import torch

from custom_networks import PocketNet, TwoStagePocketNet, ensemble_of, load_ensemble

SMALL = {"spatial_dims": 3, "out_channels": 2, "levels": 2, "features": 2}


def test_every_fold_has_its_own_weights(tmp_path):
    network = PocketNet(in_channels=1, **SMALL)
    both = ensemble_of(network, 2)
    files, outputs = [], []
    x = torch.rand(1, 1, 8, 8, 8)
    for i in range(2):
        torch.manual_seed(i)
        single = PocketNet(in_channels=1, **SMALL).eval()
        files.append(tmp_path / f"{i}.pt")
        torch.save(single.state_dict(), files[-1])
        outputs.append(single(x).softmax(1))
    load_ensemble(both, files)
    with torch.no_grad():
        torch.testing.assert_close(both.eval()(x).softmax(1), (outputs[0] + outputs[1]) / 2)


def test_two_stages_are_averaged_each(tmp_path):
    network = TwoStagePocketNet(PocketNet(in_channels=1, **SMALL), PocketNet(in_channels=2, **SMALL))
    both = ensemble_of(network, 3)
    assert type(both) is TwoStagePocketNet
    assert len(both.organ.networks) == len(both.tumor.networks) == 3
    assert isinstance(network.organ, PocketNet), "the network itself is left as it is"
