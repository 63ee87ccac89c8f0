"""Files in, files out, and one clear message for everything that is no scan."""

import gzip
import os
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from neuro4d_lib.data.images import read_image, write_like
from neuro4d_lib.data.records import Image
from neuro4d_lib.errors import InputError

SHAPE = (24, 28, 26)
SHARED = Path(os.environ.get("NEURO4D_DATA", Path(__file__).parents[3] / "shared" / "data"))
needs_shared_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real scans at {SHARED}; see NEURO4D_DATA")


def oblique_affine(spacing_mm=(5.0, 4.5, 6.0), degrees=12.0, flips=(-1, 1, 1)):
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) * flips * spacing_mm
    affine[:3, 3] = 50, -70, -60
    return affine


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(400, 100, SHAPE).clip(0).astype(np.int16)


@pytest.fixture
def save(tmp_path):
    def saved(array, name="scan.nii.gz", affine=None, slope=None, codes=(1, 1)):
        affine = oblique_affine() if affine is None else affine
        image = nib.Nifti1Image(array, affine, dtype=array.dtype)
        if slope is not None:
            image.header.set_slope_inter(*slope)
        image.set_sform(affine, codes[0], update_affine=False)
        image.set_qform(affine, codes[1], update_affine=False)
        path = tmp_path / name
        nib.save(image, path)
        return path

    return saved


def message(path, **choices):
    with pytest.raises(InputError) as caught:
        read_image(path, **choices)
    return str(caught.value)


class TestReadImage:
    def test_keeps_the_stored_numbers_type_scaling_and_affine(self, save, values):
        image = read_image(save(values, slope=(0.25, -3.0)))
        np.testing.assert_array_equal(image.array, values)
        assert (image.dtype, image.slope, image.inter) == (np.int16, 0.25, -3.0)
        np.testing.assert_allclose(image.affine, oblique_affine(), atol=1e-5)
        np.testing.assert_allclose(image.intensities(), values * 0.25 - 3, atol=1e-4)

    @pytest.mark.parametrize("dtype", ["u1", "<i2", ">i2", "<u2", "<i4", "<f4", ">f4", "<f8"])
    def test_takes_any_type_of_number_and_byte_order(self, save, values, dtype):
        stored = (values // 4).clip(0, 255).astype(dtype)
        image = read_image(save(stored, "scan.nii"))
        np.testing.assert_array_equal(image.array, stored)
        assert image.dtype.isnative and image.dtype.kind == np.dtype(dtype).kind

    @pytest.mark.parametrize("codes", [(1, 0), (0, 1), (4, 2)])
    def test_one_of_sform_and_qform_is_enough(self, save, values, codes):
        affine = read_image(save(values, codes=codes)).affine
        np.testing.assert_allclose(affine, oblique_affine(), atol=1e-4)

    @pytest.mark.parametrize("name", ["scan.nrrd", "scan.mha", "scan.mgz"])
    def test_every_format_puts_voxels_at_the_same_place(self, tmp_path, save, values, name):
        path = tmp_path / name
        if name == "scan.mgz":
            nib.save(nib.MGHImage(values.astype(np.float32), oblique_affine()), path)
        else:
            sitk.WriteImage(sitk.ReadImage(str(save(values))), str(path))
        image = read_image(path)
        np.testing.assert_allclose(image.affine, oblique_affine(), atol=1e-3)
        np.testing.assert_array_equal(image.array, values)

    def test_4d_with_one_volume_is_3d(self, save, values):
        assert read_image(save(values[..., None])).array.shape == SHAPE

    def test_a_volume_of_several_is_chosen_by_its_number(self, save, values):
        path = save(np.stack([values, values + 1, values + 2], axis=-1))
        np.testing.assert_array_equal(read_image(f"{path}::2").array, values + 2)
        assert read_image(f"{path}::2").array.shape == SHAPE

    def test_a_label_map_is_read_where_one_is_expected(self, save):
        labels = np.zeros(SHAPE, np.uint8)
        labels[8:16, 8:16, 8:16] = 17
        assert read_image(save(labels), allow_labels=True).array.max() == 17

    def test_few_gray_levels_do_not_make_a_label_map(self, save, values):
        assert read_image(save((values // 16).astype(np.uint8), slope=(16.0, 0.0))).slope == 16


class TestRefusals:
    def test_missing_file_names_where_the_path_goes_wrong(self, tmp_path):
        said = message(tmp_path / "no" / "scan.nii.gz", what="past scan")
        assert "past scan" in said and "does not exist" in said and f"{tmp_path / 'no'} does not" in said

    def test_empty_file(self, tmp_path):
        (tmp_path / "scan.nii.gz").touch()
        assert "empty file" in message(tmp_path / "scan.nii.gz")

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may read everything")
    def test_no_permission(self, save, values):
        path = save(values)
        path.chmod(0)
        assert "permission" in message(path)

    def test_no_permission_for_the_superuser_either(self, save, values, monkeypatch):
        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")

        path = save(values)
        monkeypatch.setattr(Path, "open", refuse)
        assert "permissions" in message(path)

    def test_text_named_like_an_image(self, tmp_path):
        for name in ("scan.nii.gz", "scan.nii", "scan.mgz", "scan.nrrd", "scan.zip"):
            (tmp_path / name).write_text("<html>not found</html>" * 99)
            assert "no image" in message(tmp_path / name) or "no zip" in message(tmp_path / name)

    def test_nifti_named_like_mgz(self, save, values, tmp_path):
        file = tmp_path / "wrong.mgz"
        file.write_bytes(save(values, "right.nii.gz").read_bytes())
        with pytest.raises(InputError, match=r"wrong\.mgz is no image"):
            read_image(file)

    def test_unknown_kind_of_file(self, tmp_path):
        (tmp_path / "scan.docx").write_text("text")
        assert "unknown kind" in message(tmp_path / "scan.docx")

    @pytest.mark.parametrize("lost", [5, 5000])
    def test_truncated_gzip(self, save, values, lost):
        path = save(values)
        path.write_bytes(path.read_bytes()[:-lost])
        assert "cut short" in message(path)

    def test_damaged_gzip(self, save, values):
        path = save(values)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
        assert "damaged" in message(path)

    @pytest.mark.parametrize("name", ["scan.nii", "scan.nrrd", "scan.mha"])
    def test_truncated_data(self, save, tmp_path, values, name):
        path = tmp_path / name
        if name == "scan.nii":
            save(values, name)
        else:
            sitk.WriteImage(sitk.ReadImage(str(save(values))), str(path), False)
        path.write_bytes(path.read_bytes()[:-2000])
        assert "cut short" in message(path)

    def test_2d(self, save, values):
        assert "single slice" in message(save(values[:, :, 0]))
        assert "single slice" in message(save(values[:, :, :1]))

    def test_4d_says_how_to_choose(self, save, values):
        path = save(np.stack([values, values], axis=-1))
        assert "scan.nii.gz::0" in message(path) and "scan.nii.gz::1" in message(path)
        assert "numbered 0 to 1" in message(f"{path}::2")
        assert "no volume 'last'" in message(f"{path}::last")

    def test_colors_vectors_and_complex_numbers(self, save, tmp_path, values):
        colors = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
        assert "color" in message(save(colors))
        assert "values in every voxel" in message(save(np.stack([values] * 3, axis=-1)[:, :, :, None]))
        assert "complex" in message(save(values.astype(np.complex64)))
        sitk.WriteImage(
            sitk.GetImageFromArray(np.stack([values] * 3, axis=-1), isVector=True), str(tmp_path / "v.nrrd")
        )
        assert "3 values in every voxel" in message(tmp_path / "v.nrrd")

    def test_values_that_are_no_numbers_are_counted_and_placed(self, save, values):
        broken = values.astype(np.float32)
        broken[3, 4, 5], broken[6, 7, 8] = np.nan, np.inf
        said = message(save(broken))
        assert "2 voxels" in said and "(3, 4, 5)" in said

    def test_constant_image(self, save):
        assert "every voxel is 7" in message(save(np.full(SHAPE, 7, np.int16)))
        assert "every voxel is 0" in message(save(np.zeros(SHAPE, np.uint8)), allow_labels=True)

    @pytest.mark.parametrize("dtype", [np.uint8, np.float32])
    def test_label_map_instead_of_a_scan(self, save, dtype):
        blocks = np.random.default_rng(0).integers(0, 99, (6, 7, 7)).repeat(4, 0).repeat(4, 1).repeat(4, 2)
        assert "label map" in message(save(blocks[: SHAPE[0], : SHAPE[1], : SHAPE[2]].astype(dtype)))

    def test_mask_instead_of_a_scan(self, save, values):
        assert "mask" in message(save((values > 400).astype(np.float32)))

    def test_scan_instead_of_a_label_map(self, save, values):
        assert "Expected a label map" in message(save(values / np.float32(3)), allow_labels=True)

    @pytest.mark.parametrize("column", [(0, 0, 0), (0, 4.39, 0.94)])
    def test_flat_or_zero_affine(self, save, values, column):
        affine = oblique_affine(degrees=0)
        affine[:3, 0] = column
        affine[:3, 1] = 0, 4.39, 0.94
        path = save(values)
        image = nib.load(path)
        image.header["srow_x"], image.header["srow_y"], image.header["srow_z"] = affine[:3]
        nib.Nifti1Image(image.dataobj, None, image.header).to_filename(path)
        assert "flattens or shears" in message(path)

    def test_no_orientation(self, save, tmp_path, values):
        path = save(values, "scan.nii")
        content = bytearray(path.read_bytes())
        content[252:256] = bytes(4)  # qform_code and sform_code
        path.write_bytes(content)
        assert "sform and qform codes are both 0" in message(path)
        header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 24 28 26\nencoding: raw\nendian: little\n\n"
        (tmp_path / "scan.nrrd").write_bytes(header + values.tobytes())
        assert "no 'space' field" in message(tmp_path / "scan.nrrd")

    @pytest.mark.parametrize(
        ("spacing_mm", "said"),
        [((0.1, 5, 5), "voxels of 0.1 x 5 x 5 mm"), ((5, 5, 9), "voxels of 5 x 5 x 9"), ((1, 5, 5), "too little")],
    )
    def test_absurd_sizes(self, save, values, spacing_mm, said):
        assert said in message(save(values, affine=oblique_affine(spacing_mm)))

    def test_a_field_larger_than_a_head(self, save):
        values = np.random.default_rng(0).integers(0, 999, (120, 20, 20)).astype(np.int16)
        assert "more than a head needs" in message(save(values, affine=oblique_affine((6, 6, 6))))


class TestDicom:
    @pytest.fixture
    def series(self, tmp_path):
        def written(folder="dicom", uid="1.2.3", slices=26, skip=(), modality="MR", step_mm=6.0):
            values = np.random.default_rng(0).integers(0, 999, (slices, 28, 24)).astype(np.int16)
            writer = sitk.ImageFileWriter()
            writer.KeepOriginalImageUIDOn()
            place = tmp_path / folder
            place.mkdir(exist_ok=True)
            for k in set(range(slices)) - set(skip):
                image = sitk.GetImageFromArray(values[k : k + 1])
                image.SetSpacing((5, 4.5, step_mm))
                image.SetOrigin((-50, -70, -60 + step_mm * k))
                for tag, value in {
                    "0008|0016": "1.2.840.10008.5.1.4.1.1.4",
                    "0008|0018": f"{uid}.{k + 1}",
                    "0008|0060": modality,
                    "0008|103e": f"sequence {uid}",
                    "0020|000d": "1.2.9",
                    "0020|000e": uid,
                    "0020|0013": str(slices - k),
                    "0020|0032": f"-50\\-70\\{-60 + step_mm * k}",
                    "0020|0037": "1\\0\\0\\0\\1\\0",
                }.items():
                    image.SetMetaData(tag, value)
                writer.SetFileName(str(place / f"{uid}-{(7 * k) % slices:03d}.dcm"))
                writer.Execute(image)
            return place, values

        return written

    def test_slices_are_sorted_by_place_whatever_their_names(self, series):
        folder, values = series()
        image = read_image(folder)
        np.testing.assert_array_equal(image.array, values.T)
        np.testing.assert_allclose(image.affine[:3, 3], (50, 70, -60), atol=1e-4)
        np.testing.assert_allclose(np.diag(image.affine)[:3], (-5, -4.5, 6), atol=1e-4)

    def test_zip_of_a_folder_in_a_folder(self, series, tmp_path):
        folder, values = series()
        with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
            for file in folder.iterdir():
                archive.write(file, f"export/{file.name}")
        image = read_image(tmp_path / "scan.zip")
        np.testing.assert_array_equal(image.array, values.T)
        assert image.path == str(tmp_path / "scan.zip")

    def test_several_series_are_listed_with_the_words_to_choose_one(self, series):
        series(uid="1.2.3")
        folder, values = series(uid="1.2.4")
        said = message(folder)
        assert "2 DICOM series" in said and "sequence 1.2.3, 26 images" in said
        choice = next(word for word in said.split() if word.startswith(f"{folder}::1.2.4"))
        np.testing.assert_array_equal(read_image(choice).array, values.T)
        assert "no series '9.9'" in message(f"{folder}::9.9")

    def test_missing_slice(self, series):
        folder, _ = series(skip=(11,))
        said = message(folder)
        assert "lacks slices" in said and "after slice 11" in said and "12.00 mm" in said

    def test_two_images_at_one_place(self, series):
        folder, _ = series()
        reader = sitk.ReadImage(str(next(folder.iterdir())))
        reader.SetMetaData("0008|0018", "1.2.3.99")
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / "again.dcm"))
        writer.Execute(reader)
        assert "at the same place" in message(folder)

    def test_other_modality(self, series):
        assert "modality CT" in message(series(modality="CT")[0])

    def test_folder_without_dicom(self, tmp_path):
        (tmp_path / "notes.txt").write_text("none")
        assert "no DICOM files" in message(tmp_path)

    def test_single_file_names_its_folder(self, series):
        folder, _ = series()
        file = next(folder.iterdir())
        assert str(folder) in message(file) and "single DICOM file" in message(file)


class TestWriteLike:
    @pytest.mark.parametrize("slope", [None, (0.1, 7.0)])
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
    def test_gives_the_scan_back_bit_for_bit(self, save, values, tmp_path, dtype, slope):
        scan = read_image(save((values // 4).clip(0, 255).astype(dtype), slope=slope))
        write_like(scan, scan.array, tmp_path / "out.nii.gz")
        again = read_image(tmp_path / "out.nii.gz")
        np.testing.assert_array_equal(again.array, scan.array)
        np.testing.assert_allclose(again.affine, scan.affine, atol=1e-5)
        assert (again.dtype, again.slope, again.inter) == (scan.dtype, scan.slope, scan.inter)
        header = nib.load(tmp_path / "out.nii.gz").header
        np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-3)
        assert header.get_xyzt_units()[0] == "mm"

    def test_frames_become_volumes_and_may_come_one_by_one(self, save, values, tmp_path):
        scan = read_image(save(values))
        frames = np.stack([values, values + 1])
        write_like(scan, frames, tmp_path / "whole.nii.gz")
        write_like(scan, iter(frames), tmp_path / "streamed.nii.gz", frames=2)
        assert (tmp_path / "whole.nii.gz").read_bytes() == (tmp_path / "streamed.nii.gz").read_bytes()
        np.testing.assert_array_equal(nib.load(tmp_path / "whole.nii.gz").dataobj[..., 1], values + 1)

    def test_whole_numbers_are_rounded_and_cut(self, save, values, tmp_path):
        scan = read_image(save((values // 4).clip(0, 255).astype(np.uint8)))
        wanted = np.full(SHAPE, 1.6)
        wanted[0, 0, 0], wanted[0, 0, 1] = -5, 999
        write_like(scan, wanted, tmp_path / "out.nii")
        stored = np.asanyarray(nib.load(tmp_path / "out.nii").dataobj)
        assert (stored[0, 0, 0], stored[0, 0, 1], stored[1, 1, 1]) == (0, 255, 2)

    def test_another_type_has_no_intensity_scaling(self, save, values, tmp_path):
        scan = read_image(save(values, slope=(0.1, 7.0)))
        write_like(scan, np.full(SHAPE, -1.25), tmp_path / "change.nii.gz", dtype=np.float32)
        stored = nib.load(tmp_path / "change.nii.gz")
        assert stored.get_data_dtype() == np.float32 and float(stored.dataobj[0, 0, 0]) == -1.25

    def test_a_sheared_affine_keeps_its_sform_and_claims_no_qform(self, save, values, tmp_path):
        affine = oblique_affine()
        affine[0, 1] += 0.5
        scan = Image(values, affine, values.dtype)
        write_like(scan, values, tmp_path / "out.nii")
        stored = nib.load(tmp_path / "out.nii")
        np.testing.assert_allclose(stored.affine, affine, atol=1e-5)
        assert int(stored.header["qform_code"]) == 0

    def test_never_overwrites_unasked(self, save, values, tmp_path):
        scan = read_image(save(values))
        (tmp_path / "out.nii.gz").write_text("precious")
        with pytest.raises(InputError, match="is there already"):
            write_like(scan, values, tmp_path / "out.nii.gz")
        assert (tmp_path / "out.nii.gz").read_text() == "precious"
        write_like(scan, values, tmp_path / "out.nii.gz", overwrite=True)
        assert read_image(tmp_path / "out.nii.gz").array.shape == SHAPE

    @pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
    def test_leaves_nothing_half_written(self, save, values, tmp_path, stop):
        scan = read_image(save(values))
        out = tmp_path / "out"
        out.mkdir()

        def interrupted():
            yield values
            raise stop

        with pytest.raises(stop):
            write_like(scan, interrupted(), out / "out.nii.gz", frames=2)
        assert not list(out.iterdir())

    def test_a_full_disk_is_said(self, save, values, tmp_path, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        scan = read_image(save(values))
        monkeypatch.setattr(gzip.GzipFile, "write", full)
        with pytest.raises(InputError, match="No space is left"):
            write_like(scan, values, tmp_path / "out.nii.gz")
        assert not (tmp_path / "out.nii.gz").exists()


@needs_shared_data
class TestRealFiles:
    @pytest.mark.parametrize(
        "name",
        [
            "brainchop_T1_conformed_LIA.nii.gz",
            "niivue_norm_T1_brain.mgz",
            "nibabel_someones_anatomy.nii.gz",
            "openms_p04_T1W_2D_3mm_oblique.nii.gz",
            "ixi_2mm/IXI015-HH-1258-T1_ds.nii.gz",
        ],
    )
    def test_round_trip(self, name, tmp_path):
        scan = read_image(SHARED / "single_scans" / name)
        write_like(scan, scan.array, tmp_path / "out.nii")
        again = read_image(tmp_path / "out.nii")
        np.testing.assert_array_equal(again.array, scan.array)
        np.testing.assert_allclose(again.affine, scan.affine, atol=1e-4)

    def test_nifti_and_nrrd_of_one_image_agree(self):
        nifti, nrrd = (
            read_image(SHARED / "single_scans" / f"cstar_stroke_FLAIR_brain.{e}") for e in ("nii.gz", "nrrd")
        )
        np.testing.assert_array_equal(nifti.array, nrrd.array)
        np.testing.assert_allclose(nifti.affine, nrrd.affine, atol=1e-3)

    def test_label_maps_are_told_from_scans(self):
        for labels in (SHARED / "single_scans" / "ixi_2mm").glob("*DLMUSE.nii.gz"):
            assert "label map" in message(labels)

    def test_what_is_too_small_or_several_is_refused(self):
        scans = SHARED / "single_scans"
        assert "too little" in message(scans / "nibabel_anatomical_bigendian_int16.nii")
        assert "2 volumes" in message(scans / "nibabel_example4d_EPI_4D.nii.gz")
