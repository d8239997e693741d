"""The 104 classes of TotalSegmentator's version 1 data set, in the order of their label values 1 to 104.

Published with the data set (Wasserthal et al. 2023) as the names of its mask files. Version 2 renamed, split and merged
classes, so that these 104 cannot be rebuilt from it.
"""

from __future__ import annotations

CLASSES_V1: tuple[str, ...] = (
    "spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "aorta", "inferior_vena_cava",
    "portal_vein_and_splenic_vein", "pancreas", "adrenal_gland_right", "adrenal_gland_left", "lung_upper_lobe_left",
    "lung_lower_lobe_left", "lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right",
    "vertebrae_L5", "vertebrae_L4", "vertebrae_L3", "vertebrae_L2", "vertebrae_L1", "vertebrae_T12",
    "vertebrae_T11", "vertebrae_T10", "vertebrae_T9", "vertebrae_T8", "vertebrae_T7", "vertebrae_T6",
    "vertebrae_T5", "vertebrae_T4", "vertebrae_T3", "vertebrae_T2", "vertebrae_T1", "vertebrae_C7", "vertebrae_C6",
    "vertebrae_C5", "vertebrae_C4", "vertebrae_C3", "vertebrae_C2", "vertebrae_C1", "esophagus", "trachea",
    "heart_myocardium", "heart_atrium_left", "heart_ventricle_left", "heart_atrium_right", "heart_ventricle_right",
    "pulmonary_artery", "brain", "iliac_artery_left", "iliac_artery_right", "iliac_vena_left", "iliac_vena_right",
    "small_bowel", "duodenum", "colon", "rib_left_1", "rib_left_2", "rib_left_3", "rib_left_4", "rib_left_5",
    "rib_left_6", "rib_left_7", "rib_left_8", "rib_left_9", "rib_left_10", "rib_left_11", "rib_left_12",
    "rib_right_1", "rib_right_2", "rib_right_3", "rib_right_4", "rib_right_5", "rib_right_6", "rib_right_7",
    "rib_right_8", "rib_right_9", "rib_right_10", "rib_right_11", "rib_right_12", "humerus_left", "humerus_right",
    "scapula_left", "scapula_right", "clavicula_left", "clavicula_right", "femur_left", "femur_right", "hip_left",
    "hip_right", "sacrum", "face", "gluteus_maximus_left", "gluteus_maximus_right", "gluteus_medius_left",
    "gluteus_medius_right", "gluteus_minimus_left", "gluteus_minimus_right", "autochthon_left", "autochthon_right",
    "iliopsoas_left", "iliopsoas_right", "urinary_bladder",
)  # fmt: skip

# mask files that only version 2 has: they tell the two releases apart
ONLY_V2 = frozenset({
    "atrial_appendage_left", "brachiocephalic_trunk", "brachiocephalic_vein_left", "brachiocephalic_vein_right",
    "common_carotid_artery_left", "common_carotid_artery_right", "costal_cartilages", "heart", "kidney_cyst_left",
    "kidney_cyst_right", "prostate", "pulmonary_vein", "skull", "spinal_cord", "sternum", "subclavian_artery_left",
    "subclavian_artery_right", "superior_vena_cava", "thyroid_gland", "vertebrae_S1",
})  # fmt: skip
