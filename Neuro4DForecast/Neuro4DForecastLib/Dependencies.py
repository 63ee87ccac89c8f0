"""The Python packages that a module needs: looked for without importing them, installed only when asked.

torch comes through Slicer's PyTorch extension, which picks the build for the graphics card; the rest through
slicer.packaging (5.12 and later) or slicer.util.pip_install. numpy and SimpleITK are Slicer's own: never touched.
`listFile` is a module's list of packages beside torch; None is that of the forecast.
"""

import importlib.metadata
import importlib.util
import inspect
import tempfile
from dataclasses import dataclass
from pathlib import Path

import slicer

from Neuro4DForecastLib import Failures, Library
from Neuro4DForecastLib.Problem import Problem

OWNED_BY_SLICER = ("numpy", "SimpleITK")
TORCH = "torch>=2.2"
SIZES = {"torch": "0.2 to 2.5 GB, by graphics card", "nibabel": "4 MB", "safetensors": "1 MB"}
SIZES |= {"nilearn": "26 MB, and scikit-learn", "pandas": "75 MB", "scipy": "113 MB", "ancpbids": "4 MB"}  # on disk
RESUME = "Neuro4D/InstallAfterRestart"


@dataclass(frozen=True)
class Package:
    """A package as found: `state` is present, missing or half (installed in part only)."""

    name: str
    state: str
    version: str = ""


def requirements(listFile: Path | None = None) -> list[str]:
    """Lines of the module's own list, without torch."""
    path = listFile or Library.MODULE_FOLDER / "Resources" / "neuro4d-forecast-requirements.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def nameOf(requirement: str) -> str:
    return requirement.split(">")[0].split("=")[0].split("<")[0].strip()


def look(name: str) -> Package:
    """How a package lies on disk; it is not imported."""
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    whole = spec is not None and spec.origin is not None
    if whole and name == "torch":
        whole = any(Path(spec.origin).parent.glob("_C*")) and (Path(spec.origin).parent / "nn").is_dir()
    if whole:
        return Package(name, "present", version)
    return Package(name, "half" if version or spec is not None else "missing", version)


def packages(listFile: Path | None = None) -> list[Package]:
    return [look("torch"), *(look(nameOf(line)) for line in requirements(listFile))]


def lacking(listFile: Path | None = None) -> list[Package]:
    return [package for package in packages(listFile) if package.state != "present"]


def requireComplete(listFile: Path | None = None) -> None:
    """Raise the Problem that says what is missing, before anything is started."""
    found = lacking(listFile)
    if not found:
        return
    first = found[0]
    kind = ("halfTorch" if first.state == "half" else "noTorch") if first.name == "torch" else "noPackage"
    raise Problem(Failures.KNOWN[kind][1], kind=kind)


def question(found: list[Package]) -> str:
    """The one confirmation: what would be installed, and how large it is."""
    known = {"missing": "", "half": "only half installed, will be taken out first; ", "present": ""}
    lines = [f"• {package.name} ({known[package.state]}{SIZES.get(package.name, 'small')})" for package in found]
    return (
        "Neuro4D needs Python packages that Slicer does not have yet:\n"
        + "\n".join(lines)
        + "\nInstall them now? They go into Slicer's own Python; numpy and SimpleITK are left as they are."
    )


def install(confirm, listFile: Path | None = None) -> bool:
    """Install what is lacking after one yes from `confirm(text)`; True when everything is there afterwards.

    Raises a Problem when the PyTorch extension has to come first, or when the installation failed.
    """
    found = lacking(listFile)
    if not found:
        return True
    if not confirm(question(found)):
        return False
    small = [line for line in requirements(listFile) if look(nameOf(line)).state != "present"]
    if small:
        _pip(small)
    if any(package.name == "torch" for package in found):
        _torch(repair=look("torch").state == "half")
    slicer.app.userSettings().remove(RESUME)
    importlib.invalidate_caches()
    requireComplete(listFile)
    return True


def _pip(lines: list[str]) -> None:
    try:
        constraints = _constraints()
    except OSError as error:
        raise Problem(Failures.KNOWN["notWritable"][1], kind="notWritable") from error
    try:
        packaging = _packaging()
        if packaging is not None:
            wanted = {"constraints": str(constraints), "prompt_install": False, "requester": "Neuro4D"}
            packaging.pip_ensure(lines, **accepted(packaging.pip_ensure, wanted))
        else:
            slicer.util.pip_install(["--constraint", str(constraints), *lines])
    except Exception as error:  # pip's own words, behind a sentence
        raise Problem(
            f"The packages could not be installed ({error}). Without a network connection see “Offline "
            "installation” in the "
            "documentation.",
            kind="install",
        ) from error
    finally:
        constraints.unlink(missing_ok=True)


def _packaging():
    """slicer.packaging where this Slicer has it."""
    try:
        from slicer import packaging
    except ImportError:
        return None
    return packaging if hasattr(packaging, "pip_ensure") else None


def _constraints() -> Path:
    """A constraints file that holds Slicer's own packages at their versions."""
    held = []
    for name in OWNED_BY_SLICER:
        try:
            held.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    with tempfile.NamedTemporaryFile("w", suffix=".txt", dir=slicer.app.temporaryPath, delete=False) as file:
        file.write("\n".join(held) + "\n")
    return Path(file.name)


def _torch(repair: bool) -> None:
    logic = torchLogic()
    if logic is None:
        slicer.app.userSettings().setValue(RESUME, "1")
        raise Problem(
            "PyTorch comes with the Slicer extension “PyTorch”. Press “Get the PyTorch extension”, restart "
            "Slicer when asked, "
            "and the installation goes on by itself.",
            kind="needsPyTorchExtension",
        )
    try:
        if repair:
            logic.uninstallTorch()
        wanted = {"askConfirmation": False, "torchVersionRequirement": TORCH.removeprefix("torch")}
        installed = logic.installTorch(**accepted(logic.installTorch, wanted))
    except Exception as error:
        raise Problem(
            f"PyTorch could not be installed: {error}. Try again in the PyTorch Utils module.", kind="install"
        ) from error
    if installed is None:
        raise Problem("PyTorch was not installed. Try again in the PyTorch Utils module.", kind="install")


def torchLogic():
    """The PyTorch extension's logic; None without the extension."""
    try:
        import PyTorchUtils
    except ImportError:
        return None
    return PyTorchUtils.PyTorchUtilsLogic()


def accepted(function, keywords: dict) -> dict:
    """Those keywords that this version of the function has."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return keywords
    return {name: value for name, value in keywords.items() if name in parameters}


def getPyTorchExtension() -> None:
    """Ask the Extensions Manager for PyTorch; it offers the restart itself."""
    model = slicer.app.extensionsManagerModel()
    if model is None or not hasattr(model, "installExtensionFromServer"):
        raise Problem("Install the extension “PyTorch” in the Extensions Manager, then restart Slicer.", kind="install")
    slicer.app.userSettings().setValue(RESUME, "1")
    if not model.isExtensionInstalled("PyTorch") and not model.installExtensionFromServer("PyTorch"):
        raise Problem(
            "The extension “PyTorch” could not be downloaded. See “Offline installation” in the documentation."
        )


def resumes() -> bool:
    """Whether an installation waited for Slicer's restart and can go on now; it is asked for once only."""
    settings = slicer.app.userSettings()
    if not settings.value(RESUME):
        return False
    torch = look("torch").state
    if torch != "present" and torchLogic() is None:
        return False  # the PyTorch extension has not come yet
    settings.remove(RESUME)
    return bool(lacking())
