"""One woman's numbers: her own at every visit, within what is found in women, tumour and bladder changing."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.data.phantom.sampled_anatomy import ROUGHNESS, TUMOR_MM, Anatomy, sample_anatomy


def diameter(anatomy: Anatomy) -> float:
    return float(2 * anatomy.tumor.semi.max() * (1 + ROUGHNESS) * anatomy.scale)


def test_a_woman_does_not_depend_on_the_others() -> None:
    first, again, other = sample_anatomy(4, 2), sample_anatomy(4, 2), sample_anatomy(4, 3)
    np.testing.assert_array_equal(first.uterus, again.uterus)
    assert first.trunk == again.trunk
    assert not np.array_equal(first.uterus, other.uterus)
    assert not np.array_equal(first.uterus, sample_anatomy(5, 2).uterus)


def test_what_changes_between_visits_and_what_stays() -> None:
    visits = [sample_anatomy(1, 0, visit) for visit in range(3)]
    for later in visits[1:]:
        np.testing.assert_array_equal(later.vessels[0], visits[0].vessels[0])
        np.testing.assert_array_equal(later.ovaries, visits[0].ovaries)
        assert (later.scale, later.trunk, later.fat) == (visits[0].scale, visits[0].trunk, visits[0].fat)
    assert len({tuple(visit.bladder[1]) for visit in visits}) == 3
    assert diameter(visits[0]) > diameter(visits[1])


@pytest.mark.parametrize("size", [(5.0, 60.0), (20.0, 30.0), (58.0, 60.0), (5.0, 7.0)])
def test_the_tumour_has_the_size_that_was_asked_for(size: tuple[float, float]) -> None:
    for patient in range(20):
        mm = diameter(sample_anatomy(0, patient, tumor_mm=size))
        assert max(size[0], 1.3 * TUMOR_MM[0]) - 1e-6 <= mm <= max(size[1], 1.4 * TUMOR_MM[0]) + 1e-6


def test_tumours_of_all_sites_occur_and_small_ones_sit_in_the_cervix() -> None:
    sites = [sample_anatomy(0, patient).tumor.site for patient in range(60)]
    assert set(sites) == {"cervix", "uterus", "vagina"}
    assert sites.count("cervix") > 25
    assert {sample_anatomy(0, p, tumor_mm=(7, 20)).tumor.site for p in range(20)} == {"cervix"}


def test_a_full_bladder_is_larger_and_pushes_the_uterus_back() -> None:
    empty, full = (sample_anatomy(0, 1, fill=fill) for fill in (0.0, 1.0))
    assert np.prod(full.bladder[1]) > 3 * np.prod(empty.bladder[1])
    assert full.bladder_wall < empty.bladder_wall
    assert not empty.retroverted
    # the fundus of an anteverted uterus lies farther back
    assert full.uterus[-1, 1] < empty.uterus[-1, 1]


def test_paths_have_positive_radii_and_the_colon_is_connected() -> None:
    for patient in range(8):
        anatomy = sample_anatomy(2, patient)
        for path in (anatomy.uterus, anatomy.vagina, anatomy.rectum, anatomy.sigmoid, *anatomy.bowel, *anatomy.vessels):
            assert path.shape[1] == 4
            assert (path[:, 3] > 1).all()
        np.testing.assert_allclose(anatomy.sigmoid[0], anatomy.rectum[-1])
        # the vagina ends at the external os
        assert np.linalg.norm(anatomy.vagina[-1, :3] - anatomy.uterus[0, :3]) < 6
