"""What the functions of Slicer and of its PyTorch extension take that we call."""

import inspect

# Parameters of what we call, as they stand in Slicer 583e9b37d5 (2026-08-21) and SlicerPyTorch e1c85cc (2024-04-24).
SIGNATURES = {
    "pip_ensure": "requirements constraints skip_packages prompt_install prompt_restart requester skip_in_testing "
    "show_progress",
    "pip_install": "requirements constraints no_deps_requirements skip_packages blocking show_progress requester "
    "logCallback completedCallback",
    "installTorch": "askConfirmation forceComputationBackend torchVersionRequirement torchvisionVersionRequirement",
    "registerCustomSampleDataSource": "category sampleName uris fileNames nodeNames customDownloader "
    "thumbnailFileName loadFileTypes loadFiles loadFileProperties checksums loadFileType",
}


def recorded(name, calls):
    """A function with the recorded signature of `name` that keeps what it is called with."""
    parameters = [inspect.Parameter(one, inspect.Parameter.POSITIONAL_OR_KEYWORD) for one in SIGNATURES[name].split()]
    signature = inspect.Signature([parameter.replace(default=None) for parameter in parameters])

    def function(*arguments, **keywords):
        calls.append(dict(signature.bind(*arguments, **keywords).arguments))  # a TypeError where it does not fit
        return True

    function.__signature__ = signature
    return function
