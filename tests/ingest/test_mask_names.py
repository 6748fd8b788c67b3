"""Which files are taken for masks of others by their names alone: as public data sets have them, and as classes do."""

import pytest

from stages.lib.ingest.selection import find_companions

CASES = [(label, i) for label in ("benign", "malignant") for i in range(3)]


def named(*patterns: str) -> list[str]:
    """A path for each class (c), patient (i) and pattern."""
    return [pattern.format(c=label, i=i) for label, i in CASES for pattern in patterns]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        (
            "{c}/s000{i}/ct.nii.gz",
            ("{c}/s000{i}/segmentations/liver.nii.gz", "{c}/s000{i}/segmentations/spleen.nii.gz"),
        ),
        ("{c}/p{i}/CT.nrrd", ("{c}/p{i}/Segmentation.seg.nrrd",)),
        ("{c}/p{i}/2 CT chest.nrrd", ("{c}/p{i}/2 CT chest-label.nrrd",)),
        ("{c}/img/img000{i}.nii.gz", ("{c}/label/label000{i}.nii.gz",)),
        ("{c}/sub-{i}/anat/sub-{i}_T1w.nii.gz", ("{c}/sub-{i}/anat/sub-{i}_desc-brain_mask.nii.gz",)),
        ("{c}/sub-{i}/anat/sub-{i}_T1w.nii.gz", ("{c}/sub-{i}/anat/sub-{i}_label-L_desc-T1lesion_mask.nii.gz",)),
        ("{c}/imagesTr/CHUM-00{i}__CT.nii.gz", ("{c}/labelsTr/CHUM-00{i}.nii.gz",)),
        ("{c}/rawdata/sub-{i}/sub-{i}_ct.nii.gz", ("{c}/derivatives/sub-{i}/sub-{i}_seg-vert_msk.nii.gz",)),
        ("{c}/case_{i}/imaging.nii.gz", ("{c}/case_{i}/aggregated_MAJ_seg.nii.gz",)),
        ("{c}/case_{i}/imaging.nii.gz", ("{c}/case_{i}/instances/kidney_instance-1_annotation-1.nii.gz",)),
        ("{c}/ct_scans/cor_{i}.nii.gz", ("{c}/lung_mask/cor_{i}.nii.gz", "{c}/infection_mask/cor_{i}.nii.gz")),
        ("{c}/s{i}/T1.nii.gz", ("{c}/s{i}/aseg.nii.gz", "{c}/s{i}/aparc+aseg.nii.gz")),
        ("{c}/{i}/pre/FLAIR.nii.gz", ("{c}/{i}/wmh.nii.gz",)),
        ("{c}/p{i}/p{i}_FLAIR.nii.gz", ("{c}/p{i}/p{i}_lesion.nii.gz", "{c}/p{i}/p{i}_roi.nii.gz")),
        ("{c}/images/slice_{i}.png", ("{c}/mask-0/slice_{i}.png", "{c}/mask-1/slice_{i}.png")),
        ("{c}/volume-{i}.nii", ("{c}/segmentation-{i}.nii",)),
        ("{c}/1.3.6.{c}.{i}.mha", ("seg-lungs-LUNA16/1.3.6.{c}.{i}.mha",)),
    ],
)
def test_masks_are_found_as_public_data_sets_call_them(images, masks):
    paths = named(images, *masks)
    offer = find_companions(sorted(paths))
    assert offer is not None
    assert set(offer.files) == set(named(*masks))
    assert offer.others == []


def test_a_mask_of_one_patient_alone_is_found():
    offer = find_companions(["benign/p0/image.nii.gz", "benign/p0/label.nii.gz", "malignant/p1/image.nii.gz"])
    assert offer is not None and offer.files == ["benign/p0/label.nii.gz"]


@pytest.mark.parametrize(
    "names",
    [
        ("{c}/p{i}/t1.nii.gz", "{c}/p{i}/t2.nii.gz"),
        ("{c}/p{i}_pre.nii.gz", "{c}/p{i}_post.nii.gz"),
        ("lesion/{c}{i}_lesion.nii.gz", "healthy/{c}{i}_healthy.nii.gz"),
        ("mask/{c}{i}.nii.gz", "no_mask/other{c}{i}.nii.gz"),
        ("with_mask/{c}{i}.jpg", "without_mask/{c}{i}.jpg"),
        ("label1/{c}{i}.jpg", "label2/{c}{i}.jpg"),
        ("{c}/nodule_{i}.png", "{c}/polyp_{i}.png"),
        ("small/{i}.jpg", "large/{i}.jpg"),
        ("GT/{i}.jpg", "SUV/{i}.jpg"),
        ("mask/{i}.jpg", "unmasked/{i}.jpg"),
        ("mask/mask_{i}.jpg", "face/face_{i}.jpg"),
        ("annotated/{i}.nii.gz", "plain/{i}.nii.gz"),
    ],
)
def test_classes_and_sequences_are_no_masks(names):
    assert find_companions(sorted(named(*names))) is None
