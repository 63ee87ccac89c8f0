import dataclasses
import types

import nibabel
import numpy as np
import pytest
import SimpleITK

from neuro4d_lib.forecasting.frames import Frames

YEARS = (0, 1, 2.5)


@pytest.fixture
def volumes(scan):
    return [scan.array, scan.array + 3, scan.array[::-1].copy()]


@pytest.fixture
def frames(scan, volumes, tmp_path):
    frames = Frames(tmp_path / "spool", scan)
    for volume in volumes:
        frames.append(volume)
    return frames


def test_frames_come_back_as_they_went_in(frames, volumes):
    for found, expected in zip(frames, volumes, strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(frames.last(), volumes[-1])


def test_a_frame_of_another_type_or_shape_is_refused(frames, scan):
    for wrong in (scan.array.astype(np.float32), scan.array[1:]):
        with pytest.raises(ValueError, match="Expected int16"):
            frames.append(wrong)


class TestNifti:
    def test_has_the_scans_voxels_type_and_scaling(self, frames, volumes, scan, tmp_path):
        frames.write_nifti(tmp_path / "a.nii.gz")
        image = nibabel.load(tmp_path / "a.nii.gz")
        assert image.shape == (*scan.array.shape, 3) and image.get_data_dtype() == np.int16
        np.testing.assert_allclose(image.affine, scan.affine, atol=1e-5)
        assert (image.dataobj.slope, image.dataobj.inter) == (0.5, 3.0)
        np.testing.assert_array_equal(image.dataobj.get_unscaled(), np.stack(volumes, axis=-1))

    def test_of_values_that_are_no_intensities_has_no_scaling(self, scan, tmp_path):
        frames = Frames(tmp_path / "spool", scan, np.float32)
        frames.append(np.full(scan.array.shape, -1.5, np.float32))
        frames.write_nifti(tmp_path / "a.nii.gz")
        assert np.unique(nibabel.load(tmp_path / "a.nii.gz").get_fdata()) == [-1.5]


class TestSequence:
    def test_itk_sees_the_same_values_at_the_same_places(self, frames, volumes, scan, tmp_path):
        frames.write_sequence(tmp_path / "a.seq.nrrd", YEARS)
        image = SimpleITK.ReadImage(str(tmp_path / "a.seq.nrrd"))  # the frames are components
        values = SimpleITK.GetArrayFromImage(image).transpose(3, 2, 1, 0)
        np.testing.assert_allclose(values, np.stack(volumes) * 0.5 + 3)
        corner = image.TransformIndexToPhysicalPoint((51, 0, 10))
        np.testing.assert_allclose(np.array(corner) * [-1, -1, 1], (scan.affine @ [51, 0, 10, 1])[:3], atol=1e-4)

    def test_is_gone_through_in_small_pieces(self, frames, volumes, monkeypatch, tmp_path):
        monkeypatch.setattr("neuro4d_lib.forecasting.frames._SLAB_BYTES", 50_000)
        pieces = list(frames._interleaved())
        assert len(pieces) > 5
        np.testing.assert_array_equal(np.concatenate(pieces)[:, 1], volumes[1].ravel(order="F"))

    @pytest.mark.parametrize("scaled", [True, False])
    def test_slicer_reads_it_with_times_in_years(self, frames, volumes, scan, tmp_path, scaled):
        slicer = pytest.importorskip("slicer")
        if not scaled:
            frames.scaled = False
        frames.write_sequence(tmp_path / "a.seq.nrrd", YEARS)
        scene = scene_of(slicer, tmp_path)
        sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", "a")
        storage = slicer.vtkMRMLVolumeSequenceStorageNode()
        storage.SetScene(scene)
        storage.SetFileName(str(tmp_path / "a.seq.nrrd"))
        assert storage.ReadData(sequence)
        assert (sequence.GetIndexName(), sequence.GetIndexUnit()) == ("time", "year")
        assert [float(sequence.GetNthIndexValue(i)) for i in range(3)] == list(YEARS)
        for i, volume in enumerate(volumes):
            node = sequence.GetNthDataNode(i)
            values = slicer.util.arrayFromVolume(node)
            expected = volume * np.float32(0.5) + 3 if scaled else volume
            assert values.dtype == expected.dtype
            # Slicer turns left-handed images round: compare through the place of each voxel.
            affine = ras_of(slicer, node)
            index = np.linalg.solve(affine, scan.affine @ [20, 30, 40, 1])[:3].round().astype(int)
            assert values[tuple(index[::-1])] == expected[20, 30, 40]
            assert values.sum() == pytest.approx(expected.sum(), rel=1e-6)


def scene_of(slicer, folder):
    """A scene that can read volumes; the application around it is not needed."""
    scene, logic = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(scene)
    logic.SetTemporaryPath(str(folder))
    logic.GetColorLogic().SetMRMLScene(scene)
    for name in ("vtkSlicerVolumesLogic", "vtkSlicerSequencesLogic"):
        part = getattr(slicer, name)()
        part.SetMRMLApplicationLogic(logic)
        part.SetMRMLScene(scene)
        logic.SetModuleLogic(name, part)
    scene.kept = types.SimpleNamespace(logic=logic)
    return scene


def ras_of(slicer, node):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def test_an_unscaled_scan_keeps_its_type_in_the_sequence(scan, tmp_path):
    plain = dataclasses.replace(scan, slope=1.0, inter=0.0)
    frames = Frames(tmp_path / "spool", plain)
    frames.append(plain.array)
    frames.write_sequence(tmp_path / "a.seq.nrrd", (0,))
    assert b"type: short\n" in (tmp_path / "a.seq.nrrd").read_bytes()[:400]
