"""The anatomy that the tests of the simulation share."""

import hashlib
from pathlib import Path

import pytest

from neuro4d_lib.data import rate_fields, reference, regions
from neuro4d_lib.data.simulation import Simulator


@pytest.fixture(scope="session")
def anatomy():
    return reference.build_reference()


@pytest.fixture(scope="session")
def fields(anatomy, request):
    """The rate fields; solving for them takes long, so they are kept until the code that makes them changes."""
    code = b"".join(Path(module.__file__).read_bytes() for module in (rate_fields, reference, regions))
    file = request.config.cache.mkdir("rate_fields") / f"{hashlib.sha256(code).hexdigest()[:16]}.safetensors"
    if not file.exists():
        rate_fields.rate_fields(anatomy).save(part := file.with_suffix(f".{id(anatomy)}"))
        part.replace(file)
    return rate_fields.RateFields.load(file, anatomy)


@pytest.fixture(scope="session")
def simulator(anatomy, fields):
    return Simulator.of(anatomy, fields)
