"""What the program itself must stay: short, and formatted as every other file."""

from pathlib import Path

MAIN = Path(__file__).parents[2] / "__main__.py"


def test_the_program_fits_on_a_screen() -> None:
    assert len(MAIN.read_text().splitlines()) < 80
