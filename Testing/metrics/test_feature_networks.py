import pickle

import pytest
import torch
from safetensors.torch import save_file

from neuro4d_lib.errors import InputError
from neuro4d_lib.metrics.feature_networks import feature_network, perceptual_network, read_weights
from neuro4d_lib.metrics.image_quality import lpips_2_5d

ALEX_LAYERS = {"features.0": (64, 3, 11), "features.3": (192, 64, 5), "features.6": (384, 192, 3)}
ALEX_LAYERS |= {"features.8": (256, 384, 3), "features.10": (256, 256, 3)}


def alex_weights(generator):
    """Random weights by the names of torchvision's AlexNet and of the lpips package."""
    weights = {}
    for name, (out, into, kernel) in ALEX_LAYERS.items():
        filters = torch.randn(out, into, kernel, kernel, generator=generator)
        weights[f"{name}.weight"] = filters / (into * kernel**2) ** 0.5
        weights[f"{name}.bias"] = torch.randn(out, generator=generator) / 10
    for i, name in enumerate(ALEX_LAYERS):
        weights[f"lin{i}.model.1.weight"] = torch.rand(1, ALEX_LAYERS[name][0], 1, 1, generator=generator)
    return weights


@pytest.fixture(scope="module")
def alex_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "alex.safetensors"
    save_file(alex_weights(torch.Generator().manual_seed(0)), path)
    return path


class TestAlex:
    def test_is_a_distance_of_images(self, alex_file):
        pytest.importorskip("monai")
        network = perceptual_network("alex", alex_file)
        generator = torch.Generator().manual_seed(1)
        image = torch.rand(40, 42, 44, generator=generator)
        little, much = (image + size * torch.rand(image.shape, generator=generator) for size in (0.02, 0.4))
        same, near, far = (lpips_2_5d(other, image, network, data_range=1.4) for other in (image, little, much))
        assert same == 0
        assert 0 < near < far

    def test_equals_the_lpips_package_on_the_same_weights(self, alex_file):
        lpips = pytest.importorskip("lpips")
        reference = lpips.LPIPS(pretrained=False, pnet_rand=True, net="alex", verbose=False)
        state = reference.state_dict()  # the package keeps every linear layer under two names
        ours = perceptual_network("alex", alex_file).state_dict()
        reference.load_state_dict({key: ours.get(key.replace("lins.", "lin"), state[key]) for key in state})
        first, second = torch.rand(2, 3, 1, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
        expected = reference(first, second).reshape(-1)
        torch.testing.assert_close(perceptual_network("alex", alex_file)(first, second), expected)

    def test_unknown_names_and_missing_tensors_are_named(self, alex_file, tmp_path):
        with pytest.raises(InputError, match="known: alex, resnet50"):
            perceptual_network("inception", alex_file)
        save_file({"features.0.weight": torch.zeros(64, 3, 11, 11)}, tmp_path / "part.safetensors")
        with pytest.raises(InputError, match=r"14 of 15 tensors are missing.*net.slice1.0.bias"):
            perceptual_network("alex", tmp_path / "part.safetensors")

    def test_without_a_file_and_without_net_the_address_is_named(self, monkeypatch):
        def unreachable(*_, **__):
            raise OSError("no route to host")

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
        with pytest.raises(InputError, match=r"download.pytorch.org.*no route to host.*give the file"):
            perceptual_network("alex")


class TestMedicalNet:
    def test_reads_a_torch_file_with_the_prefix_of_its_training(self, tmp_path):
        resnet = pytest.importorskip("monai.networks.nets.resnet")
        torch.manual_seed(0)
        sizes = {"spatial_dims": 3, "n_input_channels": 1, "conv1_t_stride": 2}
        original = resnet.resnet10(**sizes, feed_forward=False, shortcut_type="B", bias_downsample=False).eval()
        path = tmp_path / "resnet_10_23dataset.pth"
        torch.save({"state_dict": {f"module.{k}": v for k, v in original.state_dict().items()}}, path)
        volume = torch.rand(2, 1, 24, 24, 24)
        with torch.no_grad():
            torch.testing.assert_close(feature_network("medicalnet_resnet10", path)(volume), original(volume))


class TestReadWeights:
    def test_a_pickle_that_holds_code_is_refused(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return print, ("this must not run",)

        torch.save({"state_dict": Evil()}, tmp_path / "evil.pth")
        with pytest.raises(InputError, match="hold code are refused"):
            read_weights(tmp_path / "evil.pth")
        (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil()))
        with pytest.raises(InputError, match="hold code are refused"):
            read_weights(tmp_path / "evil.pkl")

    @pytest.mark.parametrize("name", ["noise.pth", "noise.safetensors"])
    def test_noise_is_refused(self, tmp_path, name):
        (tmp_path / name).write_bytes(b"this is no file of weights")
        with pytest.raises(InputError, match="cannot be read as plain weights"):
            read_weights(tmp_path / name)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(InputError, match=r"no weights file .*gone\.pth"):
            read_weights(tmp_path / "gone.pth")

    def test_a_list_is_no_table(self, tmp_path):
        torch.save([torch.zeros(2)], tmp_path / "list.pth")
        with pytest.raises(InputError, match="no table of weights"):
            read_weights(tmp_path / "list.pth")
