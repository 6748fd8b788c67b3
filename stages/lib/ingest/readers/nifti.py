"""NIfTI-1 and -2 in one file, packed by gzip or not: volumes of a magnetic resonance or research archive.

nibabel reads the header, whose affine gives spacing and direction; `scans.volume` does the rest.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import nibabel
import numpy as np

from stages.lib.ingest.readers import contract, packed
from stages.lib.ingest.readers.contract import Options, Rejected
from stages.lib.ingest.readers.scans import axes, volume
from stages.lib.ingest.readers.scans.volume import assemble, read, unpacked_bytes
from stages.lib.ingest.readers.sniff import NIFTI_BYTES, nifti_header

__all__ = ["ALONE", "assemble", "inspect", "read", "unpacked_bytes"]

ALONE = True
MM = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}  # by the code of the unit of length, NIFTI_UNITS_*; 0 is unknown
MOST_CODE = 5  # of sform and qform, NIFTI_XFORM_*
DIFFERENT = 0.01  # of the spacing: between qform and sform
MOST_TURNED = 0.7  # the cosine of 45 degrees, by which qform and sform may turn an axis
ALIKE = 1  # step, the smallest: how far apart qform and sform may place a corner before it is noted
MOST_AXES = 7
BY_CODE = {0: "of an unknown datatype (code 0)", 1: "of one bit", 255: "of several datatypes (code 255)"}
IN_COLOUR = (128, 2304)  # codes of RGB and RGBA
AGAIN = "write the header again, as nibabel's image.set_sform and set_qform do"


def inspect(content: bytes, options: Options) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """A file's Volume, and nothing of its own."""
    return volume.inspected(content, lambda: _layout(content), "the NIfTI header", "write it again", options)


def _layout(content: bytes) -> volume.Layout:
    block = nifti_header(content)
    header = (nibabel.Nifti1Header if len(block) == NIFTI_BYTES[0] else nibabel.Nifti2Header)(block, check=False)
    number = int(header["dim"][0])
    if not 1 <= number <= MOST_AXES:
        raise Rejected("malformed", f"the header gives {number} axes (dim[0]), of 1 to {MOST_AXES}: write it again")
    size = [int(n) for n in header.get_data_shape()]
    if min(size) < 1:
        raise Rejected("malformed", f"the header gives an axis of {min(size)} voxels (dim): write it again")
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    if len(size) > 4:
        raise Rejected("several_numbers", f"{int(np.prod(size[4:]))} numbers a voxel, as of vectors: split the file")
    size += [1] * (3 - len(size))
    if header["magic"].item() in (b"ni1", b"ni2"):
        raise Rejected("unsupported_format", "NIfTI in two files, .hdr and .img: save it as one, .nii")
    stored = _stored(header)
    offset = float(header["vox_offset"])
    if offset == 0:  # as nibabel has it
        offset = header.single_vox_offset
    if not header.sizeof_hdr <= offset <= contract.MAX_HEADER_BYTES:  # nan, too
        raise Rejected("malformed", f"the pixels begin at byte {offset:g} (vox_offset): write the header again")
    affine, noted = _affine(header)
    unit = MM.get(int(header["xyzt_units"]) & 7)
    if unit is None:
        code = int(header["xyzt_units"]) & 7
        raise Rejected("malformed", f"the unit of length has the code {code}, none of NIfTI's: write the header again")
    columns = np.diag([-1.0, -1.0, 1.0]) @ affine[:3] * unit
    shape = (size[3] if len(size) == 4 else 1, size[2], size[1], size[0])
    packing = "gzip" if packed.is_gzip(content) else ""
    return volume.Layout(stored, packing, 0, int(offset), shape, 0, *_scale(header), columns, noted)


def _stored(header: Any) -> np.dtype:
    """Raises:
    Rejected: A voxel is no single number, or one of more than 64 bits.
    """
    code = int(header["datatype"])
    if code in IN_COLOUR:
        raise Rejected("several_numbers", "a NIfTI volume in colour: write one volume a channel, or pictures")
    if code in BY_CODE or code not in header._data_type_codes.dtype:
        what = BY_CODE.get(code, f"of the datatype {code}")
        raise Rejected("unsupported_depth", f"a NIfTI volume {what}: write it as int16 or float32")
    stored: np.dtype = header.get_data_dtype()
    if stored.kind not in "iuf" or stored.itemsize > 8:
        raise Rejected("unsupported_depth", f"voxels of {stored.name}: write them as int16 or float32")
    return stored


def _scale(header: Any) -> tuple[float, float]:
    """Slope and intercept; none are meant where the slope is 0.

    Raises:
        Rejected: They are no numbers.
    """
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or np.isnan(slope):
        return 1.0, 0.0
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise Rejected("malformed", f"slope {slope:g} and intercept {intercept:g} (scl_slope, scl_inter): mend them")
    return slope, intercept


class _Form(NamedTuple):
    """One of a header's two affines, from (i, j, k) to RAS."""

    name: str
    affine: np.ndarray  # (4, 4)
    code: int


def _affine(header: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """(4, 4), from (i, j, k) to RAS: sform, else qform, as nibabel has it; and what is to be noted.

    One of the two that can't be read, or says nothing, counts as absent.

    Raises:
        Rejected: Neither is there, or both are and say different things.
    """
    header = header.copy()
    if header["pixdim"][0] == 0:  # the standard takes it for 1
        header["pixdim"][0] = 1
    given = {"sform": int(header["sform_code"]), "qform": int(header["qform_code"])}
    for name, code in given.items():
        if not 0 <= code <= MOST_CODE:
            raise Rejected("malformed", f"{name}_code is {code}, none of NIfTI's: {AGAIN}")
    if not any(given.values()):
        what = "neither sform nor qform says how the volume lies (both codes are 0)"
        raise Rejected("orientation_missing", f"{what}: {AGAIN}")
    found = [form for name, code in given.items() if code and (form := _form(header, name, code))]
    if not found:
        names = " and ".join(name for name in given if given[name])
        raise Rejected("spacing_missing", f"no numbers of an affine in {names}: {AGAIN}")
    if len(found) == 1:
        return found[0].affine, ("affines_differ",) if all(given.values()) else ()
    _check_alike(found)
    corners = np.array([(*corner, 1) for corner in np.ndindex(2, 2, 2)]) * [*(header["dim"][1:4] - 1), 1]
    apart = np.linalg.norm(corners @ (found[0].affine - found[1].affine)[:3].T, axis=1).max()
    smallest = nibabel.affines.voxel_sizes(found[0].affine).min()
    return found[0].affine, ("affines_differ",) if apart > ALIKE * smallest else ()


def _form(header: Any, name: str, code: int) -> _Form | None:
    """None where it is no affine."""
    with suppress(ValueError, nibabel.spatialimages.HeaderDataError, np.linalg.LinAlgError):
        affine = np.asarray(header.get_sform() if name == "sform" else header.get_qform(), np.float64)
        if np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 0:
            return _Form(name, affine, code)
    return None


def _check_alike(forms: Sequence[_Form]) -> None:
    """Raises:
    Rejected: Two affines differ by more than a registration of small angles makes.
    """
    sizes = [nibabel.affines.voxel_sizes(form.affine) for form in forms]
    cosines = [float(a @ b) for a, b in zip(*(form.affine[:3, :3].T for form in forms), strict=True)]
    alike = np.all(cosines > MOST_TURNED * sizes[0] * sizes[1])
    if alike and np.allclose(sizes[0], sizes[1], rtol=DIFFERENT, atol=0):
        return
    text = " but ".join(
        f"{axes.letters(np.diag([-1, -1, 1]) @ form.affine[:3, :3])} in steps of "
        f"{' x '.join(f'{mm:.4g}' for mm in steps)} by {form.name}"
        for form, steps in zip(forms, sizes, strict=True)
    )
    way = "set the code of the wrong one to 0, as nibabel's image.set_qform(None, 0) does"
    raise Rejected("malformed", f"the header contradicts itself: {text}; {way}")
