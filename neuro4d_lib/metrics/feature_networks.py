"""Networks with known features, for LPIPS, FID and KID: their architecture here, their weights from a file.

Scores of different networks never compare, so every network has a name, and the name goes beside the number.

| name | for | weights |
| --- | --- | --- |
| alex | LPIPS of slices | `lpips.LPIPS(net="alex").state_dict()`: AlexNet and 5 linear layers (arXiv:1801.03924) |
| resnet50 | perceptual distance of slices | torchvision ResNet-50 on ImageNet |
| medicalnet_resnet10, medicalnet_resnet50 | FID, KID of volumes | MedicalNet, 23 data sets (arXiv:1904.00625) |
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from neuro4d_lib.errors import InputError

PERCEPTUAL_NETWORKS = ("alex", "resnet50")
FEATURE_NETWORKS = ("medicalnet_resnet10", "medicalnet_resnet50")
_ADDRESSES = {
    "alex": (
        "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
        "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/alex.pth",
    ),
    "resnet50": ("https://download.pytorch.org/models/resnet50-11ad3fa6.pth",),
    "medicalnet_resnet10": (
        "https://huggingface.co/TencentMedicalNet/MedicalNet-Resnet10/resolve/main/resnet_10_23dataset.pth",
    ),
    "medicalnet_resnet50": (
        "https://huggingface.co/TencentMedicalNet/MedicalNet-Resnet50/resolve/main/resnet_50_23dataset.pth",
    ),
}


def perceptual_network(name: str, weights: Path | None = None) -> nn.Module:
    """A network that takes two [n, 1, h, w] slices in -1..1 to n distances, for `image_quality.lpips_2_5d`.

    Args:
        name: one of PERCEPTUAL_NETWORKS.
        weights: .safetensors, or a torch file of plain tensors. None: downloaded, where the net allows.
    """
    if name not in PERCEPTUAL_NETWORKS:
        raise InputError(f"Unknown perceptual network {name!r}; known: {', '.join(PERCEPTUAL_NETWORKS)}.")
    network = _AlexDistance() if name == "alex" else _ResNet50Distance()
    return _with_weights(network, name, weights)


def feature_network(name: str, weights: Path | None = None) -> nn.Module:
    """A network that takes volumes [n, 1, D, H, W] to features [n, F], for `distribution.extract_features`."""
    if name not in FEATURE_NETWORKS:
        raise InputError(f"Unknown feature network {name!r}; known: {', '.join(FEATURE_NETWORKS)}.")
    from monai.networks.nets import resnet

    build = resnet.resnet10 if name == "medicalnet_resnet10" else resnet.resnet50
    network = build(
        spatial_dims=3,
        n_input_channels=1,
        conv1_t_stride=2,
        feed_forward=False,
        shortcut_type="B",
        bias_downsample=False,
    )
    return _with_weights(network, name, weights)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name from a .safetensors file or a torch file; anything in it but plain tensors is refused."""
    if not path.is_file():
        raise InputError(f"There is no weights file {path}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of an unusual pickle protocol
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file may lead the unpickler into an error of any kind
        reason = (str(error).splitlines() or ["empty file"])[0]
        raise InputError(
            f"{path} cannot be read as plain weights ({reason}). Files that hold code are refused; give a .safetensors "
            "file, or one written by torch.save(network.state_dict(), ...)."
        ) from error
    content = content.get("state_dict", content) if isinstance(content, Mapping) else content
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path} holds no table of weights by name; give the state_dict of the network.")
    return dict(content)


def _with_weights(network: nn.Module, name: str, weights: Path | None) -> nn.Module:
    found = read_weights(weights) if weights is not None else _download(name)
    renamed = {_renamed(key): value for key, value in found.items()}
    expected = network.state_dict()
    missing = [k for k, v in expected.items() if k not in renamed or renamed[k].shape != v.shape]
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing:
        source = weights or "The downloaded file"
        raise InputError(
            f"{source} holds no weights of {name}: {len(missing)} of {len(expected)} tensors are missing or of another "
            f"size, {missing[0]} the first."
        )
    network.load_state_dict({key: value for key, value in renamed.items() if key in expected}, strict=False)
    return network.eval().requires_grad_(False)


def _renamed(key: str) -> str:
    """Names of torchvision's AlexNet as the lpips package numbers its slices; MedicalNet's without their prefix."""
    slices = {"features.0": 1, "features.3": 2, "features.6": 3, "features.8": 4, "features.10": 5}
    layer, _, kind = key.removeprefix("module.").rpartition(".")
    if layer in slices:
        return f"net.slice{slices[layer]}.{layer.removeprefix('features.')}.{kind}"
    return f"{layer}.{kind}" if layer else kind


def _download(name: str) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for address in _ADDRESSES[name]:
        try:
            found = torch.hub.load_state_dict_from_url(address, map_location="cpu", progress=False, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"The weights of {name} could not be downloaded from {address} ({error}). Bring them another "
                "way and give the file."
            ) from error
        tensors |= found.get("state_dict", found)
    return tensors


class _AlexDistance(nn.Module):
    """LPIPS 0.1 of AlexNet, with the parameter names of the lpips package."""

    def __init__(self) -> None:
        super().__init__()
        convolutions = {
            "slice1": ("0", nn.Conv2d(3, 64, 11, stride=4, padding=2)),
            "slice2": ("3", nn.Conv2d(64, 192, 5, padding=2)),
            "slice3": ("6", nn.Conv2d(192, 384, 3, padding=1)),
            "slice4": ("8", nn.Conv2d(384, 256, 3, padding=1)),
            "slice5": ("10", nn.Conv2d(256, 256, 3, padding=1)),
        }
        self.net = nn.ModuleDict({name: nn.ModuleDict({key: layer}) for name, (key, layer) in convolutions.items()})
        for i, (_, layer) in enumerate(convolutions.values()):
            linear = nn.Conv2d(layer.out_channels, 1, 1, bias=False)
            self.add_module(f"lin{i}", nn.ModuleDict({"model": nn.ModuleDict({"1": linear})}))
        # The means and SDs of ImageNet, for intensities in -1..1.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188])[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450])[:, None, None], persistent=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        distance = first.new_zeros(len(first))
        for i, pair in enumerate(zip(self._layers(first), self._layers(second), strict=True)):
            difference = (_unit(pair[0]) - _unit(pair[1])).square()
            linear = self.get_submodule(f"lin{i}.model.1")
            distance = distance + linear(difference).mean(dim=(1, 2, 3))
        return distance

    def _layers(self, slices: Tensor) -> list[Tensor]:
        x = (slices - self.get_buffer("shift")) / self.get_buffer("scale")
        layers = []
        for i, block in enumerate(self.net.values()):
            if i in (1, 2):
                x = F.max_pool2d(x, kernel_size=3, stride=2)
            for convolution in block.children():
                x = F.relu(convolution(x))
            layers.append(x)
        return layers


class _ResNet50Distance(nn.Module):
    """Squared distance of the unit features of ResNet-50's last layer, as in monai's PerceptualLoss("resnet50")."""

    def __init__(self) -> None:
        super().__init__()
        from monai.networks.nets.resnet import resnet50

        trunk = resnet50(
            spatial_dims=2,
            n_input_channels=3,
            conv1_t_stride=2,
            feed_forward=False,
            shortcut_type="B",
            bias_downsample=False,
        )
        for name, module in trunk.named_children():
            if name != "avgpool":
                self.add_module(name, module)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False)
        self.register_buffer("sd", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        difference = _unit(self._features(first)) - _unit(self._features(second))
        return difference.square().sum(dim=1).mean(dim=(1, 2))

    def _features(self, slices: Tensor) -> Tensor:
        x = ((slices + 1) / 2 - self.get_buffer("mean")) / self.get_buffer("sd")
        for module in self.children():
            x = module(x)
        return x


def _unit(features: Tensor) -> Tensor:
    """Features [n, C, h, w] of length 1 over the channels."""
    return features / (features.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()
