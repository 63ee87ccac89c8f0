"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuro4d_lib.data.population_config import PopulationConfig


def add_population_file(parser: Any) -> None:
    """--population, for every command that simulates people."""
    parser.add_argument(
        "--population", type=Path, metavar="FILE", help="JSON with other assumptions; `population` lists them"
    )


def population_config(file: Path | None) -> PopulationConfig:
    """The assumptions of a file, or the shipped ones."""
    from neuro4d_lib.config import read_settings
    from neuro4d_lib.data.population_config import PopulationConfig

    return PopulationConfig() if file is None else read_settings(file, PopulationConfig)
