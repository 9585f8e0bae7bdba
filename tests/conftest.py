"""What every test shares: thread limits, the place of real data, reproducible property tests."""

import os
from collections.abc import Iterator

# Before numpy is imported: tests run beside each other, and one thread a library is what makes their times comparable.
for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, str(min(2, os.cpu_count() or 1)))
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that wait for others spin on the core that these need

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "deterministic",
    derandomize=True,
    deadline=None,
    max_examples=30,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("deterministic")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--data-dir",
        default=os.environ.get("MTL_CLASSIC_DATA"),
        help="folder with real tables (hotel_bookings.parquet, …); default: the environment variable MTL_CLASSIC_DATA",
    )


@pytest.fixture(scope="session")
def data_dir(request: pytest.FixtureRequest) -> Path:
    """Return the folder with real tables; without one the test is skipped."""
    given = request.config.getoption("--data-dir")
    if not given:
        pytest.skip("no real data: give --data-dir or set MTL_CLASSIC_DATA")
    path = Path(given)
    if not path.is_dir():
        pytest.skip(f"no real data: {path} is not a folder")
    return path


@pytest.fixture(scope="module")
def few_trees() -> Iterator[None]:
    """Forests of ``preset="best"`` have 20 trees, where small tables get 300: for tests of all but their accuracy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtl_classic.model._architectures._n_extra_trees", lambda rows: 20)
        yield
