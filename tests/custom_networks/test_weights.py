import pytest
import torch

from custom_networks import (
    CaseError,
    MeanEnsemble,
    PocketNet,
    TwoStagePocketNet,
    check_weights,
    load_ensemble,
    load_weights,
)  # fmt: skip


def small(**options) -> PocketNet:
    return PocketNet(features=2, levels=2, **options)


def test_loads_and_says_what_does_not_fit(tmp_path):
    source, target = small(), small()
    torch.save(source.state_dict(), tmp_path / "model.pt")
    load_weights(target, tmp_path / "model.pt")
    assert all(
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), target.state_dict().values(), strict=True)
    )
    with pytest.raises(CaseError, match=r"model\.pt: they belong to another architecture"):
        check_weights(PocketNet(features=4, levels=2), tmp_path / "model.pt")
    with pytest.raises(CaseError, match="another architecture"):
        check_weights(small(deep_supervision=0, in_channels=2), tmp_path / "model.pt")


def test_a_part_of_a_larger_network(tmp_path):
    both = TwoStagePocketNet(small(), small(in_channels=2))
    torch.save(both.state_dict(), tmp_path / "both.pt")
    organ = small()
    load_weights(organ, tmp_path / "both.pt", "organ")
    assert torch.equal(organ.head.weight, both.organ.head.weight)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b"", "damaged"), (b"not weights", "damaged"), ({"model": {}}, "not a flat state dict")],
)
def test_files_that_are_no_weights(tmp_path, content, message):
    file = tmp_path / "model.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(CaseError, match=message):
        load_weights(small(), file)


def test_a_truncated_file(tmp_path):
    file = tmp_path / "model.pt"
    torch.save(small().state_dict(), file)
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(CaseError, match="damaged"):
        load_weights(small(), file)


def test_ensemble_of_both_stages(tmp_path):
    files = []
    for fold in range(2):
        files.append(tmp_path / f"{fold}.pt")
        torch.save(TwoStagePocketNet(small(), small(in_channels=2)).state_dict(), files[-1])
    network = TwoStagePocketNet(
        MeanEnsemble([small(), small()]), MeanEnsemble([small(in_channels=2) for _ in range(2)])
    )
    load_ensemble(network, files)
    second = torch.load(files[1])
    assert torch.equal(network.tumor.networks[1].head.weight, second["tumor.head.weight"])
    with pytest.raises(CaseError, match="1 files for 2 folds"):
        load_ensemble(network, files[:1])
